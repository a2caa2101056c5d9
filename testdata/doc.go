// Package testdata holds small images as text, and makes OCI image layouts of
// them: what the tests load, and what the demo shows.
//
// One file NAME.txtar describes one or several images. The part above the
// first "-- name --" line says what images there are and what their layers
// do; the sections below it are the contents of files, called LAYER/PATH.
//
//	image demo/base:1                 begins an image
//	image demo/web:1 from demo/base:1 ... on top of the layers and the config of an earlier one
//	created 2025-01-01T00:00:00Z      the image's time, and the mtime of everything in it
//	compression none                  its layers are tars as they are; gzip unless said
//	env KEY=VALUE                     config; also cmd, entrypoint, user, workdir, label
//	layer base a tiny system          begins a layer called base; the rest is its line in the history
//	dir tmp mode=1777                 a directory
//	file bin/sh mode=0755 size=120K   a regular file; its contents are the section base/bin/sh or,
//	                                  with size, that many bytes that do not compress, the same
//	                                  ones for the same seed= (which is the path unless given)
//	symlink bin/bash sh               a symbolic link and its target
//	link bin/ash bin/sh               another name of an earlier file
//	char dev/null 1 3                 a device; also block
//	fifo run/pipe
//	whiteout etc/motd                 .wh.motd: the name is gone
//	opaque etc/conf.d                 .wh..wh..opq: what lower layers have below is gone
//	implicit etc                      no entry for a directory though there are names in it
//
// Attributes may follow any line that makes something: mode=0644,
// owner=UID:GID, mtime=RFC3339, xattr=NAME=VALUE. A section that no line
// mentions is a file with mode 0644. A directory that no line mentions gets an
// entry as builders make it: like the one that the layers below have, or else
// with mode 0755. Lines that begin with # are comments.
//
// Always true: the same text gives the same bytes, hence the same digests.
// The tars are written with archive/tar and the JSON by hand, without the
// code that later reads them, so that a mistake there cannot hide here.
//
// Absent: layers that are malformed. Tests of those write their tars
// themselves.
package testdata
