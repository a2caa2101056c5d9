// Package histories plays random histories of system calls in several worlds at once
// and tells where they do not agree.
//
// # Nouns
//
// A Step is one call of one process, as plain data. A World is a tree that processes
// change; an Answer is what a call returned there. A History is lowers and steps. An
// Arena is a directory with the lowers and what the worlds are made of. Differences is
// the table of what is known to be answered in another way, each line with a probe
// that shows it.
//
// The worlds are:
//
//	a plain directory    Directory or Children: says what the caller must see
//	overlayfs            the same on a mount: says what a union must do, and what the
//	                     format of an upper means
//	strata in-process    the tests of overlay bring it
//	strata mounted       Children again; the tests of fusefs serve the mount
//
// Directory makes the calls itself. Children are processes, one for each of Users,
// which go from world to world: each has descriptors, a working directory, a umask and
// rights of its own, and the world as its root, so that no path leads out of it.
//
// # A history
//
// Lockstep makes every step in all worlds before the next, so that every answer is
// defined, and compares errno and answer, then the trees. The tests go on from there:
// the same tree after a remount, the kernel's view of our upper, our view of the
// kernel's. What a step would do to a world that is known to differ is left out
// (Lockstep.leaveOut), and overlayfs is left where it went another way.
//
// Two kinds of histories are drawn: DrawOverlay has the calls of an overlay.FS, for
// worlds in-process; DrawMounted what several processes do through a kernel. A failing
// one is shrunk, step by step, and printed as a script for sh, which is run on strata,
// a plain directory or overlayfs.
//
// # How many
//
// STRATA_HISTORIES says how many histories a test plays, STRATA_SEED which seed is the
// first. The command
//
//	.ci/histories [SEED]
//
// plays 10,000, of which 2,000 are mounted, and writes RESULT.txt here if none differed.
//
// # What is always true
//
// The same seed gives the same history. Nothing here knows an overlay or FUSE. Worlds
// are made on a tmpfs of their own. What was made is removed and unmounted, whatever went wrong.
//
// # What is absent
//
// Locks, whose answers need two to wait for each other; access times, which depend on
// mount options; change times, which nobody can set. Which call is made is drawn
// without a look at what there is: about half of them fail, as they must.
package histories
