// Package tree is the read-only file tree: names, attributes and where contents
// are, of one layer, of layers stacked, or of a directory of the host.
//
// # Nouns
//
// A [Tree] answers questions about inodes, which it names by [ID]; the root
// directory is [Root]. An ID is good for one open Tree only, and says nothing
// about the inode number that programs see, which is [Attr].Ino.
//
// A layer's tree is a Tree that may also hold whiteouts (an [Entry] that says:
// nothing of that name, whatever lower layers have), opaque directories (which
// hide all that lower layers have below them) and implicit directories (which
// have names below them but no entry of their own). A [Builder] makes one from
// a tar's entries, a [HostDir] shows a plain directory as one.
//
// [Stack] lays layers' trees over each other. The result is a Tree without
// whiteouts, opaque and implicit directories: they are resolved there and
// nowhere else. [Explain] tells how, for one path.
//
// A tree file holds a Tree on disk. [Write] makes one from any Tree; written
// from a Builder it is a layer, from a Stack a chain. [OpenFile] maps it as a
// [File], which is a Tree again. Contents are not in it: a regular file has the
// SHA-256 of its contents, an [ObjectDigest], and [Objects] opens what that
// names.
//
//	tar entries --> Builder --> Write --> a layer's File --+
//	                                      a layer's File --+--> Stack --> Write --> a chain's File
//	                                      a layer's File --+
//
// [Walk] goes through any Tree in order, [Resolve] follows a path.
//
// # Inode numbers
//
// An inode's number in a layer is its rank, from 1, in the pre-order walk that
// takes the names of a directory in the order of their bytes, where an inode
// with several names counts at the first; whiteouts do not count. Builder
// assigns it. In a stack of layers it is that number plus the number of inodes
// of all layers below; a merged directory has the number of the lowest layer
// that it is merged from. So a number is a function of the layers alone, not of
// who wrote them or when, stays when layers are added on top, and is below
// 2^48: numbers from there on are free for files that are born above a tree.
// [Space] tells how many numbers a Tree uses; a tree file keeps it, for there
// may be numbers that nothing visible has. A HostDir shows the host's numbers:
// those of one host filesystem are one range ([Space].Key).
//
// # What is always true
//
//   - A Tree does not change while it is open.
//   - Directories are listed in the order of their names' bytes, each name
//     once. Names are bytes, 1 to 255 of them, without slash and zero, and
//     neither "." nor "..". They need not be UTF-8.
//   - A directory has one name; other inodes have one or more.
//   - No directory lies deeper than [MaxDepth] in a tree file.
//   - The same Tree gives the same tree file, byte for byte.
//   - Nothing that stands in a tree file makes its reader panic, read elsewhere
//     or not come to an end. Where the file contradicts itself, the answer is a
//     [CorruptError].
//
// # What a File shows
//
// There is one time in it: access and change times are shown as the
// modification time. Blocks of a regular file are its size in units of 4 KiB,
// rounded up, times 8: what a filesystem with such blocks uses for contents
// without holes. Directories and symlinks have none, and directories have size
// 0: it says nothing about the tree, and whoever shows it to programs chooses
// what they like to see. Link counts are those of the names in the tree.
//
// # What may run at once
//
// All methods of a Tree, from any number of goroutines. A File takes no locks.
// Its Close must come after all other calls have returned. A File that was
// written to or cut short by somebody else while it is open gives errors (EIO)
// where that is noticed. Any number of processes may map the same file.
//
// # What is absent
//
// Writing to a tree (that is an upper's), permissions (Attr tells them, nobody
// checks them), following symlinks, contents, and packing or unpacking tars. A
// tree file is never changed in place. Checksums find damage; they do not keep
// out somebody who may write to the store and makes them fit, who gains nothing
// but another tree.
//
// # The tree file
//
// Numbers are little-endian and unsigned unless said otherwise. Sections start
// at multiples of 64, in this order, with zero bytes between them; the file
// ends with the last.
//
//	+--------+-----------+--------+---------+------+-------+--------+---------+
//	| header | checksums | inodes | entries | text | links | xattrs | objects |
//	+--------+-----------+--------+---------+------+-------+--------+---------+
//	    192     4 each      64       12        *       8       *        32
//
// The header:
//
//	 0   8  "STRATREE"
//	 8   4  version, 1
//	12   4  CRC-32C of the 192 bytes of the header, with these four taken as zero
//	16   8  size of the file
//	24   8  size of the space of inode numbers, below 2^48
//	32   4  number of block checksums
//	36   4  CRC-32C of everything between the header and the inodes
//	40  96  for each of the six sections: 8 bytes place in the file, 8 bytes size
//	136 56  zero
//
// The checksums: one CRC-32C for each 64 KiB of the file, the last of what is
// left. The first begins at the inodes, not at 0. (Should the checksums fill
// whole blocks of 64 KiB, those have zeros for checksums.)
//
// An inode; its ID is its rank in the section, from 1:
//
//	 0   8  inode number, 1 to the size of the space
//	 8   2  mode: file type and permission bits, as in st_mode
//	10   1  flags: 1 implicit directory, 2 opaque directory
//	11   1  how contents are kept: 1 an object; 0 for all but regular files
//	        (reserved: 2 inline, 3 packed)
//	12   4  layer that gave it, base is 0
//	16   4  uid
//	20   4  gid
//	24   4  link count: 2 + subdirectories of a directory, else number of names
//	28   4  modification time, nanoseconds
//	32   8  modification time, seconds, signed
//	40   8  regular file: size. symlink: length of the target. directory: number
//	        of entries. device: number, as makedev(3) packs it. Others: 0
//	48   4  regular file: index of the object. symlink: place of the target in
//	        text. directory: index of the first entry. Others: 0
//	52   4  0, or 1 + place of the xattr set in xattrs
//	56   4  directory that holds the only name; 0 if there are several
//	60   4  index of the entry that is the only name; if there are several, of
//	        the first link
//
// The root is inode 1; its last two fields are 1 and 0.
//
// An entry; those of a directory stand together, sorted by name:
//
//	 0   4  place of the name in text
//	 4   4  inode, 0 for a whiteout
//	 8   1  length of the name
//	 9   1  file type, the mode's four type bits; 0 for a whiteout
//	10   2  zero
//
// Text: the names of one directory, each behind the one before, without
// anything between them; then the targets of the symlinks that are first named
// there.
//
// A link is one name of an inode that has several. Those of an inode stand
// together, sorted:
//
//	0   4  directory
//	4   4  index of the entry
//
// Xattrs: sets of attributes, equal ones once:
//
//	0   2  number of attributes, at least 1; for each, sorted by name:
//	    2    length of the name
//	    4    length of the value
//	    *    name
//	    *    value
//
// An object is the 32 bytes of a SHA-256; each stands there once.
//
// The order of inodes and of directories in entries and text is not part of the
// format. Write visits directories in pre-order and numbers what a directory
// has when it is visited: what a listing with attributes needs stands together,
// and so does what a walk needs next.
//
// # Why it is so
//
//   - A lookup is a binary search that reads 12 bytes and a name for each
//     probe; a listing copies one run of text; attributes are one cache line. A
//     lookup takes about 80 ns among a hundred names, attributes 40, a listing
//     45 a name.
//   - A checksum for each 64 KiB is checked when a byte of the block is first
//     wanted, and a bit remembers that. At 22 GB/s for CRC-32C with the CPU's
//     help a block costs 3 µs, less than the page faults for it; opening costs
//     15 µs for 40,000 names, the first question about a path 20 more. Smaller
//     blocks would save nothing to speak of; checking whole sections would make
//     the first question cost as much as reading the file. A page that the
//     kernel dropped and reads again from the disk is not checked again.
//   - Every name costs 12 bytes and itself, every inode 64, every content 32:
//     747 KB for a Debian system of 6,674 names.
//   - 32-bit places hold 4 GiB of text and of xattrs and 4 billion inodes.
//     Write refuses more.
//
// # Versions
//
// A reader knows all versions up to its own and refuses later ones with
// [ErrNewer]. Whatever changes the meaning of a byte, or gives one to a byte
// that is zero now, is a new version. A sample of each version stays in
// testdata and must be readable for good.
//
// # Worked example
//
// A layer whose directory etc is opaque, with a whiteout of etc/old:
//
//	/          inode 1, number 1
//	/etc       inode 2, number 2, opaque
//	/etc/motd  inode 4, number 3, "hello\n"
//	/etc/old   whiteout
//	/sh        inode 3, number 4, symlink to bin/dash
//
// The header: 672 bytes, 4 inode numbers, one checksum. Six sections: inodes at
// 0x100, 0x100 bytes; entries at 0x200, 0x30 bytes; text at 0x240, 0x14 bytes;
// links and xattrs, empty, and objects, 0x20 bytes, at 0x280:
//
//	00000000  53 54 52 41 54 52 45 45  01 00 00 00 57 7c fb dc  |STRATREE....W|..|
//	00000010  a0 02 00 00 00 00 00 00  04 00 00 00 00 00 00 00  |................|
//	00000020  01 00 00 00 f2 e3 59 33  00 01 00 00 00 00 00 00  |......Y3........|
//	00000030  00 01 00 00 00 00 00 00  00 02 00 00 00 00 00 00  |................|
//	00000040  30 00 00 00 00 00 00 00  40 02 00 00 00 00 00 00  |0.......@.......|
//	00000050  14 00 00 00 00 00 00 00  80 02 00 00 00 00 00 00  |................|
//	00000060  00 00 00 00 00 00 00 00  80 02 00 00 00 00 00 00  |................|
//	*
//	00000080  20 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  | ...............|
//	00000090  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
//	*
//
// The checksum of the bytes from 0x100 to the end:
//
//	000000c0  a8 af ab f6 00 00 00 00  00 00 00 00 00 00 00 00  |................|
//	000000d0  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
//	*
//
// The inodes. That of etc, at 0x140: number 2, mode 040755, flag 2, owned by
// 0:0, 2 links, 1,700,000,000 seconds and 2 nanoseconds after 1970, 2 entries,
// the first of them 2, no xattrs, its only name in directory 1, entry 0:
//
//	00000100  01 00 00 00 00 00 00 00  ed 41 00 00 00 00 00 00  |.........A......|
//	00000110  00 00 00 00 00 00 00 00  03 00 00 00 01 00 00 00  |................|
//	00000120  00 f1 53 65 00 00 00 00  02 00 00 00 00 00 00 00  |..Se............|
//	00000130  00 00 00 00 00 00 00 00  01 00 00 00 00 00 00 00  |................|
//	00000140  02 00 00 00 00 00 00 00  ed 41 02 00 00 00 00 00  |.........A......|
//	00000150  00 00 00 00 00 00 00 00  02 00 00 00 02 00 00 00  |................|
//	00000160  00 f1 53 65 00 00 00 00  02 00 00 00 00 00 00 00  |..Se............|
//	00000170  02 00 00 00 00 00 00 00  01 00 00 00 00 00 00 00  |................|
//	00000180  04 00 00 00 00 00 00 00  ff a1 00 00 00 00 00 00  |................|
//	00000190  00 00 00 00 00 00 00 00  01 00 00 00 04 00 00 00  |................|
//	000001a0  00 f1 53 65 00 00 00 00  08 00 00 00 00 00 00 00  |..Se............|
//	000001b0  05 00 00 00 00 00 00 00  01 00 00 00 01 00 00 00  |................|
//	000001c0  03 00 00 00 00 00 00 00  a4 81 00 01 00 00 00 00  |................|
//	000001d0  00 00 00 00 00 00 00 00  01 00 00 00 03 00 00 00  |................|
//	000001e0  00 f1 53 65 00 00 00 00  06 00 00 00 00 00 00 00  |..Se............|
//	000001f0  00 00 00 00 00 00 00 00  02 00 00 00 02 00 00 00  |................|
//
// The entries: etc and sh of the root, motd and the whiteout old of etc:
//
//	00000200  00 00 00 00 02 00 00 00  03 04 00 00 03 00 00 00  |................|
//	00000210  03 00 00 00 02 0a 00 00  0d 00 00 00 04 00 00 00  |................|
//	00000220  04 08 00 00 11 00 00 00  00 00 00 00 03 00 00 00  |................|
//	00000230  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
//
// The text: the root's names, sh's target, etc's names:
//
//	00000240  65 74 63 73 68 62 69 6e  2f 64 61 73 68 6d 6f 74  |etcshbin/dashmot|
//	00000250  64 6f 6c 64 00 00 00 00  00 00 00 00 00 00 00 00  |dold............|
//	00000260  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
//	*
//
// The object: the SHA-256 of "hello\n":
//
//	00000280  58 91 b5 b5 22 d5 df 08  6d 0f f0 b1 10 fb d9 d2  |X..."...m.......|
//	00000290  1b b4 fc 71 63 af 34 d0  82 86 a2 e8 46 f6 be 03  |...qc.4.....F...|
package tree
