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
// and found again in the upper when it is next looked up.
//
// The inode number (Attr.Ino) is another thing: it survives copy-up, rename and
// remount. A merged directory shows its lower directory's number, a copied-up
// file the lower's, recorded in the xattr overlay.strata.ino; what was born in the
// upper shows 2^48 plus its number on the upper's filesystem.
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
//	  FS.renameMu               exclusive: rename; shared: all else that follows names
//	    node.dirMu              the names in one directory; parent before child
//	      FS.tableMu            the maps from numbers to nodes
//	        node.mu             one node's own fields
//	          dirCache.mu       open directory descriptors
//
// Data is copied up before renameMu is taken: a long copy blocks only those who
// want the same file.
//
// # What is always true
//
// The lower never changes. Data, owner, mode, times and xattrs of a copied-up
// inode arrive before its name does: it is made in the work directory and
// renamed. A lower inode with several names gets all of them in the upper, so
// that the kernel, too, sees one file; a crash in between is completed by the
// next Open. Copying up changes no time stamp of the directory. Names that
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
// A rename of a directory that the lower has is EXDEV. chmod and rename of a
// lower file copy its data. Nothing here knows FUSE.
package overlay
