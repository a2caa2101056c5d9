// Package fusefs serves an overlay to the kernel.
//
// # Nouns
//
// A Server is one mount: a FUSE connection, and the goroutines that answer its
// requests. A device is our end of it, where requests are read one at a time
// (device.go says why). A request names a node by its node id. A handle is
// what the kernel has open, from OPEN, CREATE or OPENDIR to RELEASE. A backing
// file is a file of the lower or upper that the kernel uses by itself
// (passthrough), known to it by a backing id.
//
// A node id is the overlay.ID as it is, so an inode of which there is nothing to
// say costs no memory here. The table of nodes holds what there is to say: what
// is open, in which mode, with which backing id, and aliases.
//
// # Modes of a node
//
// While a node is open it is in one mode, for the kernel answers EIO to whoever
// opens it in another:
//
//	passthrough  the kernel reads, writes and maps the backing file itself. All
//	             handles share one backing id, counted; a second one would be
//	             EIO even for the same file.
//	cached       READ and WRITE requests behind the kernel's page cache.
//
// Passthrough is the default where the kernel grants it (6.9, as root, not in a
// user namespace); everywhere else the cached mode does the same, slower, and
// nobody is told.
// Lowers are passed through only from a mount that refuses writes: the kernel
// opens the backing file again with the flags of the client, and from a mount
// that can be written, one mistake here would let a client write into a lower.
// Whoever opens a lower's file opens it through such a mount (a detached clone
// will do); what comes from another is served in cached mode.
//
// A lower's file stays open, and registered, when its last handle is closed, for
// those that are opened again soon (kept.go). It is let go when somebody opens the
// upper's.
//
// Why passthrough for lowers is the default and Options.Coherent the option,
// measured here, 256 MiB, the plain file read in 24-30 ms: 23-25 ms in
// passthrough; in cached mode 160-280 ms for the first read though the file was
// in memory, 58-84 ms after that. And the cached mode keeps a second copy of all
// data in memory, for each mount.
//
// # Copy-up while the lower is open: aliases
//
// Somebody reads a lower's file through passthrough; somebody else opens it for
// writing. It is copied up, but the node cannot have the upper's file as its
// backing now. The OPEN is answered with ESTALE, upon which the kernel looks the
// name up again and opens what it finds: from now on replies call the inode by an
// alias, a node id of its own, with the same st_ino and the upper's file behind
// it. Requests by either id reach the same overlay.ID.
//
//	node 17 (first)    open handles, backing: lower      requests by its id go on
//	node 1<<63|1       backing: upper                    what LOOKUP answers
//
// An OPEN by an id that is not what LOOKUP answers is ESTALE, so that a name which
// the kernel remembers with the old id (another hard link) finds the new one in
// the same way. Who comes by a descriptor (/proc/self/fd/N) has no name to look up:
// the kernel asks a second time for the same node, which is answered (staleopen.go).
//
// While the kernel has two inodes for one, neither keeps attributes.
// When the last handle of the old node is closed the kernel is asked to drop its
// names (NOTIFY_PRUNE, 7.45); when it has forgotten the old node the alias is a
// node as any other. The alias lives at least as long as the old node: to look a
// name up again the kernel asks twice and gives the first answer's reference back
// between, and the second answer must be the same alias.
//
// What is different from one inode, while both live, and what overlayfs does:
//
//	by the old descriptor              here          overlayfs
//	read(2), sendfile(2), splice(2),   old data      new data
//	  copy_file_range(2), lseek(2)
//	mappings, old and new              old data      old data
//	fstat(2), fchmod(2), futimens(2),  one inode     one inode
//	  xattrs, linkat(2), fsync(2)
//	/proc/self/fd/N and map_files, an
//	  O_PATH descriptor, file handle,
//	  bind mount of the file:
//	  opened to read, executed         old data      new data (no file handles)
//	  opened to write                  ESTALE        as by name
//	POSIX and OFD locks, flock         one file: they exclude each other, see below
//	inotify, on the file               nothing       what is done by name, too
//	leases                             stay with the old inode
//	a program running from it          can be        ETXTBSY
//	                                     written to
//	lsattr(1)                          ESTALE        works (here else ENOTTY)
//
// By name all is new, in every process; inotify on the directory hears everything.
// What is opened to write by a descriptor cannot be had while the kernel reads the
// lower through that inode: it takes no other backing file beside, nor any other
// mode. When those who had the lower open have closed it, what still leads to the
// old node (a bind mount, an O_PATH descriptor) opens the upper's file, to write
// too. TestEdge has all of this as a table, with a plain directory and overlayfs
// beside it: go test ./fusefs -run TestEdge -v.
//
// In cached mode, and with Options.Coherent always for lowers, there is one inode:
// whoever has the lower open reads from the upper after the copy-up.
//
// # Locks
//
// The kernel would keep locks itself, a set for each of its inodes. So that they
// hold across a copy-up it sends them here, and the lockTable keeps them by
// overlay.ID: whatever node id, alias or name a request comes by, it is one file.
// Record locks (POSIX and OFD) and flock do not see each other. What answers and
// in which order is the kernel's own way with a local file, and tests compare.
//
//	SETLK    refused if another lock is in the way
//	SETLKW   waits without limit. Whoever takes a lock away settles who waited for
//	         it, longest first, so nobody polls and nobody wakes in vain. Any
//	         signal ends it: the kernel makes the system call again if need be
//	FLUSH    a descriptor is closed, the process waits: its POSIX locks of the file
//	         are gone
//	RELEASE  the open file description is closed: what was asked for through it is
//	         gone, OFD locks and flock above all. The kernel does not wait for it.
//
// A FLUSH is a round trip for each close(2), so handles are opened with
// FOPEN_NOFLUSH that will hardly need it: those opened O_RDONLY or O_WRONLY on a
// file that nobody has locked since the kernel knows it. POSIX locks that are taken
// through such a handle go with its RELEASE.
//
// RELEASE may be overtaken by the request of a process that ran after close(2) had
// returned, and that must not find the lock still taken (flock -n in a loop). Here
// that is seen to when RELEASE is read, before anything else is. In the kernel it
// happens when more requests are in the background than it sends at a time (a
// process with 300 open files exits: 1 in 3 tries at the lock that it had came
// before the RELEASE), or when readahead of the file is under way. So
// what would be refused waits up to 100 ms as long as the lock in its way may have
// been closed: see doubtTime.
//
// What is different from a local filesystem:
//
//	a POSIX lock taken through a      goes when the last descriptor of that open file
//	  NOFLUSH handle                  description is closed, not the first of the file
//	a NOFLUSH handle closed by a      takes none of its POSIX locks away that it got
//	  process                         through other handles
//	trying for a lock that such a     is refused after 100 ms, not at once
//	  handle has
//	F_GETLK finds an OFD lock         says which process took it, not -1
//	F_OFD_GETLK finds a POSIX lock    says -1, not which process has it
//	EDEADLK                           also for OFD locks, if the threads that hold them
//	                                  are the ones that wait; not for POSIX locks, if a
//	                                  process waits with another thread through the same
//	                                  handle
//	/proc/locks, lslocks              list none of them
//
// Directories cannot be locked through FUSE: flock on them stays the kernel's, and
// they are never two inodes. So do leases.
//
// What it costs, with the kernel's own locks and with these in the same runs on a
// busy machine, the fastest twentieth of 3000 each: to open, read and close a
// lower's file the same (25 microseconds), and so to create, write and close a file
// O_WRONLY; O_RDWR an eighth more; to open, read and close a file that has been
// locked 1.25 times as much. To lock and unlock takes two requests, 16-21 microseconds
// beside 1.
//
// # What the kernel is told
//
//	entry, negative, attribute     nothing changes the tree but through the mount
//	  timeouts: for ever
//	attribute timeout 0 while      stores through a mapping of a passthrough file
//	  open O_RDWR                  are not reported; while an inode has an alias
//	default_permissions            the kernel checks; the overlay does not
//	READDIRPLUS, always            attributes come with the names: a cold walk
//	                               has no LOOKUP for each
//	CACHE_DIR, KEEP_CACHE          a second listing asks nothing
//	CACHE_SYMLINKS                 neither does a second readlink
//	POSIX_LOCKS, FLOCK_LOCKS       locks are kept here, see Locks
//	FOPEN_NOFLUSH where nobody     close(2) asks nothing, and the kernel has nothing
//	  is likely to lock            to write back
//	EXPLICIT_INVAL_DATA            or a changed mtime, by our own writes, would
//	                               drop the page cache
//	ATOMIC_O_TRUNC                 O_TRUNC comes with OPEN: no data is copied up
//	                               only to be cut off
//	HANDLE_KILLPRIV_V2             no GETXATTR of security.capability before every
//	                               write; see privileges.go for who does it then
//	POSIX_ACL, DONT_MASK           the kernel checks ACLs; inheritance and umask,
//	                               exactly once, are in acl.go
//	SETXATTR_EXT                   says when setting an ACL must clear set-gid
//	DIRECT_IO_ALLOW_MMAP           Observe and cached aliases use direct I/O, and
//	                               shared mappings must work there too
//	MaxStackDepth 1                the mount can be the lower of an overlayfs; a
//	                               backing file on overlayfs is refused (ELOOP)
//	MaxWrite 128 KiB               readahead asks for no more; 1 MiB made writing
//	                               no faster and costs memory
//
// With Options.Observe there are no timeouts, no caches and no passthrough, so that
// every operation reaches the overlay.
//
// # What was found out, and is relied on (Linux 6.18, FUSE 7.45)
//
//   - After a read through passthrough, or a READ, the kernel takes atime for
//     unknown: the next stat(2) that wants it asks GETATTR, once.
//   - To drop attributes (NOTIFY_INVAL_INODE with a negative offset) it takes no
//     lock that the process whose request is being served may hold; to drop data
//     or names it does, so these are sent from a goroutine of their own.
//   - stat(2) on the root of a mount whose server has died may succeed, from the
//     attributes that the kernel kept; statfs(2) always asks.
//   - A process interrupts its request by any signal, not only one that kills it;
//     request.go tells these apart.
//   - When set-id bits are taken away by a write, the kernel goes on with the
//     mode that it knows, for exec too, until its attributes are dropped.
//   - A write through passthrough takes no set-id bits away, for the upper's
//     filesystem sees the server's rights: such files are written in cached mode.
//   - Passthrough needs CAP_SYS_ADMIN in the initial user namespace: registering
//     a backing file is EPERM elsewhere.
//   - fusermount3 opens /dev/fuse by the user's rights.
//   - RELEASE comes late: what one process has closed may still count as open
//     when the next opens it, and is then split without need, which is harmless.
//   - The backing of a mapping outlives RELEASE. A store through a mapping that
//     is all that is left of an O_RDWR handle changes mtime unseen.
//
// # What may run at once
//
// All requests, though one after the other is read, and answered by who has read
// it, while none takes long. Locks, in this order; the overlay takes its own behind them and
// never calls back:
//
//	node.mu          modes, backing ids; held while a handle joins or leaves
//	  nodeTable.mu   which nodes and aliases there are, and their counts
//	  keptFiles.mu   which nodes keep a lower file open
//	dirHandle.mu     one reader of a directory handle at a time
//	handleTable.mu, notifier.mu, lockTable.mu, staleOpens.mu: nothing else is taken
//	                 under them
//
// The goroutines of a Server end with it: Wait returns when they have.
//
// # What is absent
//
// There is no policy here: an answer is what the overlay says, errnos as errno.go
// has them. syncfs(2) never reaches a FUSE server.
// FICLONE and the collapse and insert modes of fallocate are refused by FUSE;
// all ioctls are ENOTTY.
// There is no writeback cache: it excludes passthrough.
package fusefs
