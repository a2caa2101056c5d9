// Package bench measures strata side by side with what else people use.
//
// Every figure is a ratio of medians from one run: the contenders take turns, so
// that a busy machine slows all of them alike. Nothing here is a test: a number
// never fails one. How to get each number again:
//
//	go test ./bench -run '^$' -bench Load      loading an image, against tar -xzf and sync
//	go test ./bench -run '^$' -bench Layers    61 layers, against the same tree in one
//
// On two cores of an AMD EPYC with ext4, idle otherwise, the real images gave 0.85 and 0.61
// of tar for loading debian:12 with new and with known contents (7 turns), and for deep:1
// 0.95, 1.02 and 0.93 of its twin for a missing name, stat and readdir (11 turns).
//
// STRATA_IMAGES names a folder of real images (family/, an OCI layout with
// debian:12 and deep:1); without it images of the same shape are made up.
package bench
