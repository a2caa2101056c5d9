// Package container keeps containers: it takes one from create, through mount
// and umount, to remove.
//
// # Nouns
//
// A container is an upper over the chain of one image. It is a directory of
// the store:
//
//	containers/<id>/          64 hex digits
//	    config.json           who it is and what it stands on (Config)
//	    upper/                what it has written, in the format that config.json names
//	    work/                 scratch of the overlay, on the same filesystem
//	    upper.N/, work.N/     instead, after the Nth snapshot or rollback
//
// What it has written becomes a layer by commit, which makes an image of it; by fork,
// which makes another container above it; or by snapshot, which goes on above it
// itself and can go back. The layer is made by the overlay (in the process that serves
// the mount, if there is one) and packed by the store.
//
// A mount is a process that serves the merged tree to the kernel. What is known
// about it is lost with the machine, so it lives apart from the store, under
// /run/strata or $XDG_RUNTIME_DIR/strata, in a directory named by the hash of
// the store's path:
//
//	<hash>/<id>.json          the mount: pid, start time, mount point (Record)
//	<hash>/<id>.log           what a detached mount process had to say
//	<hash>/<12 digits>/merged the mount point when none is asked for
//
// Directories there are 0755, so that other users reach a mount although the
// store is 0700. A mount of plain directories has no container; its record is
// overlay/<hash of the mount point>.json.
//
// # What is always true
//
// A directory below containers/ is a whole container. It is made in a staging
// directory of the store and moved into place by one rename, and moved out
// again by one rename before anything of it is deleted. What a kill leaves
// behind is staging that nobody holds, which the store sweeps away.
//
// A container's config lists its layers and those of its snapshots, and the store
// keeps every layer so listed. Layers, upper and snapshots change together, by the
// rename of a new config; uppers that no config names are swept away by the next who
// has the container. Create has a Hold from before the layers are known to exist until
// the config stands.
//
// The root directory of a new upper has the attributes of the chain's root:
// an upper that has a directory decides that directory's attributes.
//
// Disks and people can break this; Check tells what is wrong with which container.
//
// A record is a hint and never trusted alone: a pid counts only together with
// the start time of its process, so that a number that was given out again is
// not mistaken for a mount.
//
// # What may run at once
//
// Anything, in any number of processes. Locks are flocks on directories, taken
// in this order:
//
//	containers/<id>/    exclusive as long as the container is mounted or used in-process, and while it is removed
//	the store's Hold
//	containers/         exclusive while a name is chosen and given out
//
// The server closes the overlay, removes its record and gives the lock back, in
// this order. Who unmounts waits for its process to end or, if that goes on
// living, for the record to vanish: either way the last write is in the upper.
//
// # Absent
//
// Processes inside a container. A snapshot or rollback of what is mounted: the
// kernel knows the names of the upper that it began with. Nothing here prints: callers decide what people see.
package container
