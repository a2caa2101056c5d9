// Package layerstore keeps the contents, layers, chains and images of
// container images on disk.
//
// # Nouns
//
// An object is the contents of regular files, stored once under the SHA-256 of
// its bytes, whatever names, owners, modes and times the files have in however
// many layers.
//
// A layer is a tree (names and attributes, see package tree) over objects. It
// is named by its diffID, the SHA-256 of the tar that it was read from, and
// keeps what is needed to give that tar back bit for bit: its tar recipe. A
// blob is that tar as somebody stored or sent it, usually compressed, named by
// its digest; a layer knows every blob that it was read from as a source.
//
// A chain is what a stack of layers shows, whiteouts and opaque directories
// resolved: a tree again, named by its chainID. It is derived: made when first
// used, dropped by gc, made again.
//
// Sources are what lets an image leave with the digests with which it came
// (Export). An uncompressed blob is the layer's tar. Of a compressed one nothing
// else gives the bytes back: other settings or another version of the same
// compressor give others. So it is kept (KeepNeeded), unless the user thinks more
// of the room (KeepNever); then Export makes another blob, always the same, and
// says so. Contents compress to less than half, and df shows what this costs.
//
// An image is a manifest, a config and the layers that the config lists; the
// index gives references to images. A reference that moves to another image
// leaves the old one behind without a name, as Docker does, until rmi or gc.
//
// A hold keeps what is found in the store from being collected.
//
// # On disk
//
//	<root>/                        0700
//	  version                      "1\n"; refused when newer than the program
//	  objects/ab/cdef...           one file a content; 64 hex digits, two of them the directory
//	  layers/<hex of diffID>/
//	    tree                       names and attributes (package tree)
//	    tar                        the tar recipe (recipe.go draws it)
//	    source-<hex of digest>     one for each blob it came from: JSON (source.go)
//	    blob-<hex of digest>       that blob, if no recipe gives it
//	  chains/<hex of chainID>/
//	    tree
//	  images/                      an OCI image layout: oci-layout, index.json,
//	    blobs/sha256/<hex>         manifests and configs
//	  containers/<id>/             not ours, but config.json is read for what it holds
//	  tmp/<random>/                staging
//
// Directories are named by the hex digits alone, for a colon in a path is a
// separator to mount options.
//
// # The life of an object
//
// Somebody takes a Hold: a shared lock on objects/ and a staging directory
// that is locked too. From here on whatever is found in the store stays.
//
// The layer is read; each regular file is hashed. A content that the store or
// the staging directory has is not written again. Others are written into
// staging under their digest. The tree, the tar recipe and the source's blob
// are written into staging as well. Nothing has a name in the store so far; a
// kill or a bad layer leaves a staging directory that nobody holds.
//
// The last byte has been read and every digest is right. One syncfs makes all
// bytes of staging durable. Then the objects are renamed into objects/: a name
// there never exists before its bytes are durable, so a name can be trusted
// after a power cut. Who loses the race to another process drops its copy. A
// second syncfs, with nothing but names to write, makes the names durable
// before any tree refers to them. (A journal that keeps the order of all
// renames would do without, but not every filesystem's fsync of a directory
// promises that for other directories.) Then the layers' directories are
// renamed into place, whole, and layers/ is synced. Of an image all layers go
// this way together, at its end: two syncfs for one layer or for sixty, and a
// bad layer leaves none of the others behind. They may come at the same time, as
// those of a registry do. Manifest and config follow, and
// index.json last. The Hold is released.
//
// From now on the object is held by the layer's tree or recipe; the layer by
// an image of the index, or by a container's config.json. gc, which excludes
// all Holds, removes layers that nobody holds, then objects that no layer needs. Holders tells who
// holds what.
//
// # A layer without a tar
//
// A layer can be made of a tree with whiteouts and opaque marks in it: what a
// container changed, or several layers made one. Its tar is never there as a
// whole: Pack's bytes are hashed, for the diffID, as they would be written, and
// recorded in the recipe. So the layer is the one that reading the packed tar
// would give, and the same tree always gives the same layer.
//
// A content that is no object yet is cloned (FICLONE) or copied into staging, and
// never moved or linked there. Moving would save the copy where a filesystem cannot
// clone, but an object must not be a file that somebody can still write to: a
// container goes on with its upper after a commit; and a descriptor or a mapping that
// was handed out through passthrough outlives the process that served the mount. The
// kernel is asked whether a file is open for writing (it then refuses a read lease);
// such files are copied like others, and named.
//
// # What is always true
//
// Bytes under an object's name hash to it; objects are read-only and never
// change. A layer's directory is whole or absent, and every object that its
// tree or recipe names is present. Files below layers/ and chains/ never
// change once they have their name; a further source adds files. An index
// never names an image that is not whole. Disks and people break all of this;
// Fsck finds out.
//
// # Check
//
// Fsck reads all: first documents, then objects, then layers, whose tars need
// objects that are right, then chains, which need layers. What is damaged because
// something else is, is not told of twice: an object that is damaged is told with
// the paths, layers, images and containers that need it, not once more as the tar
// that cannot be given back.
//
// Objects are read from the disk (the kernel is asked to forget them first), as a
// flipped bit may not have come to memory yet. Layers and chains are found in
// memory then. No file is opened for writing and none is locked, so mounts are not
// disturbed.
//
// A check may take hours, and gc must not wait so long: several times a second it is
// looked whether the turnstile is shut, and if so the Hold is given back and another
// taken. So what was seen before may be gone after, and damage is told only of what
// is still there. Where an interrupted run was, the next one goes on: objects and
// layers are read in the order of their names, and what came since was verified when
// it came. A layer is read in one go.
//
// What has no checksum can be changed so that it is something else that could be
// right: a reference in the index, a container's name, what a container has written.
//
// # Repair
//
// Whatever is mended is made in staging, verified as if it came from outside, and
// renamed over what was wrong. Who has that open or mapped, as a mount does, goes on
// with it until he opens it anew: a container whose chain was damaged is told of, to
// be unmounted and mounted again.
//
//	object          by reading again a layer that needs it
//	tree            the same, from the layer's recipe if that is right
//	tar recipe      the same, from a blob
//	kept blob       from elsewhere; by compressing the tar, if that gives its digest;
//	                else it is not kept any more, and images leave with another
//	chain           derived from its layers
//	manifest,       from elsewhere
//	config
//	index.json      made of the manifests that are there; names are lost, and so that gc
//	                does not take these for images without a name, they get new ones
//	not needed      gc drops it
//
// A layer is read again from a kept blob of its own, from images that are at hand, or
// from the registry that an image was pulled from, of which the index keeps the
// repository; it is asked for the manifest's digest, so a tag that has moved does no
// harm. Nobody is asked for images that did not come from there: their names would
// tell a stranger what is here. What a container has written is never touched.
//
// # What may run at once
//
// Everything, in any number of processes and goroutines. Locks are flocks on
// the directories that they guard, so that the kernel releases those of a
// process that died, and no file is there only to be locked. Lock order:
//
//	layers/           exclusive: a check, so that there is one at a time
//	  tmp/            shared: while a Hold is taken; exclusive: who looks for abandoned staging,
//	                  and gc until it has objects/
//	    objects/      shared: a Hold; exclusive: gc
//	      tmp/<x>/    exclusive: the owner of that staging directory
//	      images/     exclusive: who changes index.json
//
// (A check looks, without waiting, whether tmp/ or a container's directory is locked,
// whatever it has itself: who does not wait cannot be waited for.)
//
// tmp/ is a turnstile: gc holds it while it waits for the Holds of others to
// end, so newcomers wait behind it and a busy store cannot starve it. It
// follows that nobody may take a second Hold while he has one, or gc between
// the two would wait for the first and keep the second from being taken: what
// can happen under a Hold is a method of Hold. Within a process, Hold.mu guards
// the set of objects that are staged, and is taken after all of the above.
//
// A Hold may last as long as a download does. So gc keeps the turnstile for
// Patience at most, then opens it for a moment, in which those who wait come in,
// and begins anew if it may wait for longer; else it gives up and names the
// processes that have objects/, as /proc/locks knows them. The other way, a pull
// that holds the store only while it publishes, would let gc take what the pull
// has found to be there, and the pull would have to fetch it after all: nobody
// needs gc at once, and what it could not free it frees the next time.
//
// Readers take no lock. What they read is immutable and kept by an image or a
// container; a reader of anything else takes a Hold.
//
// # Why one file a content
//
// 59 % of the distinct contents of real Debian images have at most 4 KiB. All
// that is to be said against files was measured on those 5,385 (7.5 MB), on a
// fresh ext4, two cores, with other work beside it, by
//
//	STRATA_IMAGES=DIR go test -run xxx -bench SmallContents ./layerstore
//
//	form     write and sync   disk      inodes   open and read
//	file     320 ms           23.7 MB   5,643    6.1 us
//	packed    18 ms            7.5 MB       2    0.9 us
//	inline    20 ms            7.5 MB       2    0.07 us
//
// It is one file each all the same. FUSE passthrough takes a whole file, and
// only what goes through it (or is opened from below) shares one page cache
// among containers. An open of 6 us is a fraction of a FUSE round trip. Packs
// need repacking when gc frees a part, and inline contents are stored once a
// tree rather than once. 16 MB are 6 % of the images' 249 MB of objects. The
// time to write is what tar pays, too, and most of it passes while the other
// core decompresses. The tree file reserves the other forms.
//
// # What loading costs
//
// debian:12, 51 MB of gzip, 117 MB in 6,674 entries, beside "tar -xzf blob &&
// sync -f" of the same blob on the same ext4, in turns, medians of five, by
//
//	STRATA_IMAGES=DIR go test ./bench -run xxx -bench Load -benchtime 5x
//
//	tar and sync              1.00   (0.93 s)
//	load                      0.57
//	load, contents known      0.34
//	peak memory of a load     42 MB
//
// Known contents cost no writing, but a layer that is not known must be read to know
// its contents: inflating is most of that, which one core does alone and all else
// waits for (see package inflate); a known blob is not read at all. A fifth of the
// processor time is SHA-256 of blob, tar and contents. Keeping the blob costs less
// than the runs differ. What did not help: starting write-back early with a syncfs
// for every 24 MB. What misleads: ext4 gives out inodes that were deleted less than
// minutes ago only after a long search, so a benchmark that removes what it unpacked
// measures that.
//
// # What is absent
//
// No recipe for gzip blobs. Those that the standard library has written, with
// docker's settings, could be had back from the tar: Export does it where such a
// blob was not kept, and finds out by the digest. To know it when a layer comes
// costs compressing it once more, several times what reading it costs, and binds the
// blob to a compressor's version; a blob on disk costs neither.
//
// No database, no daemon, no reference counts: gc marks from the roots. No
// extraction to the host's filesystem. Private tar entry types of Solaris, AIX
// and others are refused; SCHILY.acl.* text ACLs and the records of PAX global
// headers are not interpreted, but are part of the exact tar. No limit on time:
// that is the context's.
package layerstore
