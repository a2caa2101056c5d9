package tree

import (
	"cmp"
	"slices"
	"syscall"
)

// Finish ends the making. It drops what has been replaced, gives whiteouts of
// names that the layer has their meaning, numbers the inodes and counts their
// names. An inode's number is its rank in the walk that visits a directory
// before its names and names in byte order, by the first of its names: so it
// depends on what the layer has, and not on the order in which it came.
func (b *Builder) Finish() error {
	if b.finished {
		return syscall.EINVAL
	}
	old, ranges := b.sortNames()
	b.names = nil

	// number[n] is the ID of node n; order[id] is the node of id.
	number := make([]uint32, len(b.nodes))
	order := make([]uint32, 1, len(b.nodes))
	assign := func(n uint32) {
		number[n] = uint32(len(order))
		order = append(order, n)
	}
	assign(uint32(Root))
	type frame struct{ next, end uint32 }
	stack := []frame{{ranges[Root], ranges[Root+1]}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.next == top.end {
			stack = stack[:len(stack)-1]
			continue
		}
		node := old[top.next].node
		top.next++
		whiteout := node&whiteoutMark != 0
		node &^= whiteoutMark
		switch {
		case node == 0:
		case b.nodes[node].isDir():
			n := &b.nodes[node]
			if whiteout {
				n.opaque = true
				n.implicit = false // it is new, and nothing below can lend it attributes
			}
			assign(node)
			stack = append(stack, frame{ranges[node], ranges[node+1]})
		case number[node] == 0:
			assign(node)
		}
	}

	nodes := make([]builderNode, len(order))
	for id, n := range order {
		nodes[id] = b.nodes[n]
	}
	b.nodes = nodes
	b.layOut(old, ranges, number, order)
	b.finished = true
	return nil
}

// sortNames returns all names sorted by directory and name; those of
// directory d are at ranges[d] to ranges[d+1].
func (b *Builder) sortNames() (sorted []builderEntry, ranges []uint32) {
	sorted = make([]builderEntry, 0, len(b.names))
	for key, node := range b.names {
		sorted = append(sorted, builderEntry{key.name, key.dir, node})
	}
	slices.SortFunc(sorted, func(a, b builderEntry) int {
		if c := cmp.Compare(a.dir, b.dir); c != 0 {
			return c
		}
		return cmp.Compare(a.name, b.name)
	})
	ranges = make([]uint32, len(b.nodes)+1)
	at := 0
	for d := range ranges {
		for at < len(sorted) && sorted[at].dir < uint32(d) {
			at++
		}
		ranges[d] = uint32(at)
	}
	return sorted, ranges
}

// layOut writes the entries of the directories in the order of their IDs and
// counts links.
func (b *Builder) layOut(old []builderEntry, ranges, number, order []uint32) {
	for id := uint32(Root); int(id) < len(b.nodes); id++ {
		dir := &b.nodes[id]
		if !dir.isDir() {
			continue
		}
		dir.first = uint32(len(b.entries))
		dir.nlink += 2
		for _, e := range old[ranges[order[id]]:ranges[order[id]+1]] {
			node := number[e.node&^whiteoutMark]
			at := uint32(len(b.entries))
			b.entries = append(b.entries, builderEntry{e.name, id, node})
			if node == 0 {
				continue
			}
			n := &b.nodes[node]
			if n.isDir() {
				dir.nlink++
				n.name = at
				continue
			}
			n.nlink++
			switch n.nlink {
			case 1:
				n.name = at
			case 2:
				if b.links == nil {
					b.links = make(map[ID][]uint32)
				}
				b.links[ID(node)] = []uint32{n.name, at}
			default:
				b.links[ID(node)] = append(b.links[ID(node)], at)
			}
		}
		dir.count = uint32(len(b.entries)) - dir.first
	}
}
