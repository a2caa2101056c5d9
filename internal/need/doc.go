// Package need lets a test say what it needs of the machine: root's
// capabilities, FUSE mounts, overlayfs, a program of somebody else, real images.
//
// Where that is missing the test is skipped and says what would make it run,
// so that go test passes on a machine with nothing but Go. With STRATA_CI in
// the environment it fails instead: .ci/run sets it, so that no test is left
// out unnoticed where everything is there.
//
// A need is probed, not guessed: root within a container often may not mount,
// and a device node that exists need not open.
//
// Absent: needs of the program itself, which finds out at run time and has a
// second way; package testing, so that the package can be imported anywhere.
package need
