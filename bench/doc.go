// Package bench measures strata side by side with what else people use.
//
// Every figure is a ratio of medians from one run: the contenders take turns, so
// that a busy machine slows all of them alike. Nothing here is a test: a number
// never fails one.
//
// # Nouns
//
// A Contender shows lowers and an upper as one tree: the kernel, another
// program, strata, or a plain directory with a copy. A Place says what it is to
// show and what with; a View is the tree while it is shown, with the processes that
// serve it. A Workload is one thing that people do with a tree: it says which
// Data it wants, whether it begins with empty caches, whether it changes
// anything, and has the work as a function, or as a Figure that measures by
// itself. A Site is where a workload works. RunFS lets all of them meet, and its
// FSReport is what strata bench fs prints, as a table, JSON or a page.
//
//	contender*.go   who, and how each is mounted; server.go: processes that serve
//	dataset*.go     the trees, made up in a run or checked out from an image
//	workload*.go    what is done with them
//	fs_*.go         the run and its measurements, the report, the targets, the page; plot.go draws
//	scratch.go      what a run makes and takes away; stats.go, environment.go, command.go
//
// # How bench fs measures
//
//	for each round
//	  for each workload
//	    for each contender, in an order that changes
//	      a scratch directory, a mount of its own (plain: a copy, if Own)
//	      Prepare                              not measured
//	      cold: sync, drop all caches          or
//	      warm: Work, if it changes nothing    not measured
//	      Before, Work, Before, Work, ...      until Work has taken 50 ms
//	      unmount; the processes have ended before the next begins
//
// A value is the seconds of one operation. What is cold, or can be done only once
// in a mount, is done once, and sized to take long enough where it can be.
//
// strata is a process of its own, this program run again, as for everybody else.
// It takes part several times: on plain directories as the others do (strata, and
// with options), and as a container of an image with the same tree (strata-image),
// for which it was made: there the layers have been stacked beforehand, and names
// come from a tree file. A container's upper lies in its store, so it takes part in
// what writes only if --upper is on the same filesystem as --dir.
//
// The trees are read-only for everybody, and who only reads a plain directory
// reads the lower itself, so its page cache is the one that overlayfs and
// passthrough use, too. Uppers are in a tmpfs by default.
//
// # What is always true
//
// Whatever happens, also after an interrupt, mounts are unmounted, processes have
// ended and directories are removed, in this order. A directory in which something
// is still mounted is not removed. Servers ask to be terminated should this process
// be killed.
//
// # Go benchmarks
//
//	.ci/compare HEAD~3                         hot paths of overlay and overlay/tree, by benchstat
//	go test ./bench -run '^$' -bench Load      loading an image, against tar -xzf and sync
//	go test ./bench -run '^$' -bench Layers    61 layers, against the same tree in one
//
// On two cores of an AMD EPYC with ext4, idle otherwise, the real images gave 0.57 and 0.34
// of tar for loading debian:12 with new and with known contents (5 turns), and for deep:1
// 0.90, 1.00 and 1.08 of its twin for a missing name, stat and readdir (11 turns).
//
// STRATA_IMAGES names a folder of real images (family/, an OCI layout with
// debian:12 and deep:1); without it images of the same shape are made up.
//
// # Where the time goes
//
// perf record -e cpu-clock of the mount process on that machine, plain directories
// as lowers, uppers in a tmpfs. Points are hundredths of the process's time; what is
// left is reading requests, waking who asked, and Go's scheduler.
//
//	cold walk      74 points are listing the lower: 41 reading its directories and
//	               stat(2) of every name in them, 27 listxattr(2) of every name, by
//	               which a host directory finds overlayfs's marks. A tree file needs
//	               neither, and a walk of it is little more than its requests
//	create         22 points are CREATE: 8 openat(2) in the upper, 4 stat(2) of what
//	               was made, 4 the handle with its backing id; 5 the LOOKUP that the
//	               kernel sends before it, 3 a GETATTR of the directory, whose times
//	               have changed, 5 RELEASE
//	small reads    19 points are OPEN: 11 opening the lower's file, 5 its node and
//	               backing id; 8 RELEASE. The data itself costs nothing here
//
// Switching between two processes is the largest single item of the last two, a
// third: to answer faster gains less than to be asked less. What was tried so that
// the kernel asks less stands in the table of fusefs.
package bench
