// Package overlay shows one writable upper over one lower tree.
//
// # Nouns
//
// The lower is a tree.Tree without whiteouts: all layers, already stacked. The
// upper is a host directory in the format of the kernel's overlayfs, the work
// directory is scratch space beside it for what must appear in one step. An FS
// joins them into the merged tree. An ID names an inode of the merged tree; a
// File is an open regular file and a Dir an open directory.
//
// An inode is lower-only until something of it must change; then it is copied
// up. Inodes with something in the upper (copied up or born there) and lower
// inodes that were deleted are nodes. Everything else is answered from the lower
// tree alone and costs no memory.
//
// # IDs, inode numbers, and how long nodes live
//
// A lower-only inode's ID is its tree.ID, so whoever asks for it by ID needs no
// table; a counter of four bytes tells whether anybody knows it. When such an
// inode is copied up or deleted while somebody does, a node takes its ID over. A
// node that is found in the upper, or made there, gets a fresh ID from 2^48 on.
// A node is dropped when its references (one for each Node handed out, one for
// each open File or Dir, one for each node that has a name in it) are all gone,
// and found again in the upper when it is next looked up. Only directories of the
// lower that were moved may be kept longer, see movedDirs.
//
// The inode number (Attr.Ino) is another thing: it survives copy-up, rename and
// remount. A merged directory shows its lower directory's number, a copied-up
// file the lower's, recorded in the xattr overlay.strata.ino; what was born in the
// upper shows 2^48 plus its number on the upper's filesystem. What the kernel's
// overlayfs copied up shows the lower's number as long as it has the lower's name
// and that one only, and what it shows is recorded before that changes.
//
// # What stays in the lower
//
// A directory that is moved takes nothing along: overlay.redirect says which lower
// directory is merged below it. A change that leaves a file's data alone (mode,
// owner, times, xattrs, names) makes an upper file as long as the lower's, all hole,
// that is marked overlay.metacopy; opens for reading go to the lower, and the data
// comes with the first open for writing, as much of it as O_TRUNC or truncate
// leaves. Where a redirect does not fit into an xattr, a directory does not move
// (EXDEV) and a file takes its data along. A redirect is written before the name
// changes, a mark goes after the data has come; what a crash leaves between is
// nothing that anybody looks at.
//
// # An upper as a layer
//
// FS.Layer takes the upper as the tree of a layer, without anything that only an
// upper has: redirects are followed, data that is still the lower's is found there.
// Names and attributes are of one instant, for FS.renameMu is held exclusively while
// they are read; contents are not: who writes through a File waits for nobody. Each
// file's node is held, so that its contents are found after a rename or removal.
//
// # How an upper inode is reached
//
// Nothing holds a descriptor for each inode. A node knows its names, each a
// directory node and a name; directory descriptors are opened on demand,
// relative to the parent's, and kept in a bounded cache. Every operation on an
// upper inode enters by one door, FS.at, which yields a directory descriptor
// and a name and holds off changes to that directory meanwhile, so that no
// operation ever hits another inode that took the name. A node that has no
// known name left is reached through a pinned O_PATH descriptor.
//
// # The order of locks
//
//	node.copyMu                 one copy-up of one inode at a time; never two held
//	  movedDirs.mu              the upper is read for directories that were moved
//	    FS.renameMu             exclusive: rename, Layer; shared: all else that follows names
//	      node.dirMu            the names in one directory; parent before child
//	        FS.tableMu          the maps from numbers to nodes
//	          node.mu           one node's own fields
//	            dirCache.mu     open directory descriptors
//
// Data is copied up before renameMu is taken: a long copy blocks only those who
// want the same file. copyMu is also held while the attributes of a file without
// data are changed, for who brings the data puts back the times that it found.
//
// # What is always true
//
// The lower never changes. All that a copied-up inode is going to have in the upper
// is there before its name: it is made in the work directory and renamed. A File
// stays on the file that it opened: one on the lower goes on reading that when the
// data comes to the upper. A read-only FS writes nothing. A lower inode with several names gets all of them in the upper, so
// that the kernel, too, sees one file; a crash in between is completed by the
// next Open that may write. Copying up changes no time stamp of the directory. Names that
// begin with our prefixes in the xattr namespaces are hidden from and escaped
// for those who use the merged tree.
//
// # Who enforces what
//
// Permissions, sticky directories and the size of names are the kernel's
// business (default_permissions); this package checks none. It gives what is
// created in a set-gid directory that directory's group, and a new directory
// the bit. The upper's own filesystem clears set-id bits and capabilities on
// chown.
//
// # What is absent
//
// The first byte written to a lower file brings all of its data. The kernel's index
// and its marks overlay.nlink, .protattr and .uuid are neither written nor looked at,
// and its overlay.origin is only believed about an inode number. Nothing here knows
// FUSE.
package overlay
