// Package oci reads and writes images as the outside world has them.
//
// # Nouns
//
// A blob is bytes named by their [Digest]. A [Descriptor] says which blob is
// meant: media type, digest, size. An image is a manifest that names a config
// and layers, base first; the config lists the layers' [DiffID] (hashes of the
// uncompressed tars), from which the [ChainID] of every stack follows. An
// index lists manifests, one a platform or one an image. A [Reference] is a
// name that people give to an image. An [Archive] is a file or directory that
// holds images; each comes out of it as an [Image], whose documents are the
// exact bytes that were found and whose layers can be opened and read. An
// image from anywhere else is the same [Image], made by [NewImage]; one that
// [Registries] pull is of that kind, and so is one that they push or that
// [SaveArchive] writes.
//
// # Two forms of archive
//
//	OCI image layout (a directory, or a tar of one)
//
//	oci-layout                  {"imageLayoutVersion":"1.0.0"}
//	index.json                  descriptors of manifests and of further indexes
//	blobs/sha256/<64 hex>       manifests, configs, layers
//
//	docker archive (a tar)
//
//	manifest.json               [{"Config":FILE,"RepoTags":[...],"Layers":[FILE,...]},...]
//	FILE                        configs and layers, under any name; a layer may be a link
//
// A tar may as a whole be compressed with gzip or zstd, which is found by its
// first bytes and never by its name. A tar that is both (docker save has
// written both since version 25) is read as a layout if all blobs that its
// index needs are in it, because only then do the manifests' digests survive,
// and as a docker archive otherwise.
//
// A docker archive has no manifest. The one that it gets is a function of the
// archive alone: an OCI manifest whose layers are the bytes as they stand in
// the archive, compressed or not. The config is kept to the byte, so the
// image's ID is the one Docker shows.
//
// # Names
//
// A layout's entry is named by the annotation io.containerd.image.name, else by
// org.opencontainers.image.ref.name. A value with ':', '/' or '@' in it is a
// reference. Any other is a tag, as skopeo and umoci write it, and the
// repository is the base name of the archive without .oci, .tar and the
// compression's suffix; where that is no valid name (standard input), the
// image has no reference. A malformed reference is an error of its image; so
// is one that names two different images, unless their platforms tell which
// of them is meant.
//
// Of an index within the index the linux manifest of this machine's
// architecture is taken, one without a CPU variant before the others, else the
// first listed. Attestations (platform unknown/unknown) are not images and are
// passed over.
//
// # Registries
//
// Manifests and blobs are read by HTTP requests of our own, over the library's
// authentication, for three things that the library's own reading has not: a
// blob goes on where its connection broke off, small answers have small bounds,
// and of what is known nothing is asked. Blobs are sent by the library.
//
//	Pull      GET manifest -> (GET manifest of the platform) -> GET config    | blobs: when a layer is opened
//	Push      HEAD blob -> POST, perhaps a mount -> PATCH, PUT (blobs at once) | last: PUT manifest
//
// What may pass is tried again, a few times, with longer pauses: no answer, a
// broken connection, 408, 429, 5xx. Tries are counted anew once a blob has come
// forward. What cannot pass is told at once: refused connections, other statuses,
// and bytes that are not what they should be. Credentials are those of docker's
// and podman's configs and credential helpers; none of them is sent to another
// host, or in the clear over a network.
//
// # Always true
//
//   - A digest has been parsed before a path is made of it, and every path is
//     opened under an [os.Root] or looked up in the tar's own index of names.
//     Symbolic links in a layout are followed as long as they stay in it
//     (layouts made of links to one directory of blobs exist); what they lead
//     to must be a regular file.
//   - Nothing is parsed before it has been bounded: 8 MiB for a manifest or an
//     index, 16 MiB for a config, a million entries and 64 MiB of names for a
//     tar, [ArchiveOptions].MaxSpool bytes for what is decompressed. No answer of
//     a registry is longer, but for blobs, which are as long as their descriptor
//     says.
//   - No request lasts for ever: one that no byte gets on ends. One that goes on
//     may take its time.
//   - A push makes the tag name the old image or the new one, whole.
//   - The bytes of a blob have the digest and size of its descriptor, and
//     nothing follows them; a reader that reached io.EOF knows that.
//   - An image has as many layers as its config has diffIDs. That a layer's
//     tar hashes to its diffID is for the one who decompresses it to check.
//   - An uncompressed tar is indexed once, by offsets, and read in place. What
//     is compressed or comes from a pipe is first decompressed into a file that
//     has no name any more, so that nothing is left behind, whatever happens.
//   - Errors name the archive, the image, the layer and the cause.
//
// # At once
//
// An Archive does not change after it was opened: images can be asked for,
// layers opened and read from several goroutines. Close comes after all that.
// Registries may be used by several at once, too.
//
// # Absent
//
// Docker's schema 1 manifests, digests other than sha256, sparse tar entries,
// archives compressed with xz or bzip2: each is an error that says so.
// Signatures and artifacts that are not images are refused by their media
// types. Of an index the image for one platform is pulled, and that is what is
// pushed: whole indexes are neither kept nor sent. Layers that only their
// publisher distributes are not fetched from him. Registry mirrors and the
// configuration of docker's daemon are not known.
package oci
