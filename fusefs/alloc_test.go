package fusefs

import (
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/overlay"
	"strata/overlay/tree"
)

// Answering from the lower allocates nothing. A connection without a kernel
// will do for that.
func TestAnswersDoNotAllocate(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"lower", "lower/d", "upper", "work"} {
		if err := os.Mkdir(base+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		write(t, base+"/lower/d/"+string(rune('a'+i)), "x")
	}
	h, err := tree.OpenHostDir(base+"/lower", tree.HostDirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ofs, err := overlay.Open(overlay.Options{Lower: tree.Stack(h), Upper: base + "/upper", Work: base + "/work", Format: overlay.FormatUser})
	if err != nil {
		t.Fatal(err)
	}
	defer ofs.Close()
	var o Options
	o.fill()
	c := newConnection(ofs, o)

	header := func(id uint64) fuse.InHeader { return fuse.InHeader{NodeId: id} }
	root := header(fuse.FUSE_ROOT_ID)
	var dir, file fuse.EntryOut
	if st := c.Lookup(nil, &root, "d", &dir); !st.Ok() {
		t.Fatal(st)
	}
	parent := header(dir.NodeId)
	getattr := &fuse.GetAttrIn{InHeader: parent}
	var open fuse.OpenOut
	if st := c.OpenDir(nil, &fuse.OpenIn{InHeader: parent}, &open); !st.Ok() {
		t.Fatal(st)
	}
	read := &fuse.ReadIn{InHeader: parent, Fh: open.Fh}
	buf := make([]byte, 32<<10)
	list := fuse.NewDirEntryList(buf, 0)
	var attr fuse.AttrOut
	for _, c := range []struct {
		name   string
		allow  float64
		answer func() fuse.Status
	}{
		{"lookup", 0, func() fuse.Status { return c.Lookup(nil, &parent, "f", &file) }},
		{"lookup of a missing name", 0, func() fuse.Status { return c.Lookup(nil, &parent, "none", &file) }},
		{"getattr", 0, func() fuse.Status { return c.GetAttr(nil, getattr, &attr) }},
		{"forget", 0, func() fuse.Status { c.Forget(file.NodeId, 1); return fuse.OK }},
		// For "..", which is in the upper, and the list; nothing for each of the 20 entries.
		{"readdirplus", 6, func() fuse.Status {
			*list = *fuse.NewDirEntryList(buf, 0)
			return c.ReadDirPlus(nil, read, list)
		}},
	} {
		n := testing.AllocsPerRun(100, func() {
			if st := c.answer(); !st.Ok() {
				t.Fatal(c.name, st)
			}
		})
		if n > c.allow {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}
