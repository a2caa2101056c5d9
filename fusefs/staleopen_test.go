package fusefs

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

func TestStaleOpens(t *testing.T) {
	var s staleOpens
	if s.put(0, 7); s.take(0, 7) {
		t.Error("a thread without a number is taken for another")
	}
	s.put(1, 7)
	if s.take(2, 7) || !s.take(1, 7) || s.take(1, 7) {
		t.Error("it is for the thread that it was for, once")
	}
	s.put(1, 7)
	if s.take(1, 8) || s.take(1, 7) {
		t.Error("who has opened something else still has a second chance")
	}
	s.put(1, 7)
	s.recent[0].at = s.recent[0].at.Add(-2 * secondOpen)
	if s.take(1, 7) {
		t.Error("it counts after long")
	}
	for thread := range uint32(1000) {
		s.put(thread+1, 7)
	}
	if n := int(s.noted.Load()); n != len(s.recent) {
		t.Errorf("%d notes for %d places", n, len(s.recent))
	}
	for thread := range uint32(1000) {
		kept := int(thread) >= 1000-len(s.recent)
		if s.take(thread+1, 7) != kept {
			t.Errorf("thread %d is not as it should be: %v", thread+1, kept)
		}
	}
	if n := s.noted.Load(); n != 0 {
		t.Errorf("%d notes are left", n)
	}
}

// Who opens by a name sees what was written, who opens a descriptor again what
// that shows, however many do both at once.
func TestReopenWhileSplit(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) {
		write(t, lower+"/f", "old.")
		os.Link(lower+"/f", lower+"/g")
	})
	m.requirePassthrough()
	stat(t, m.path("g"))
	r := openFile(t, m.path("f"), os.O_RDONLY)
	w := openFile(t, m.path("f"), os.O_RDWR)
	w.WriteAt([]byte("new."), 0)

	var names, descriptors atomic.Int32
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for i := range 300 {
				path, want, count := m.path("f"), "new", &names
				switch (i + worker) % 3 {
				case 0:
					path = m.path("g")
				case 1:
					path, want, count = self(r), "old", &descriptors
				}
				if got := show(os.Open(path)); got != want {
					t.Errorf("%s: %s, want %s", path, got, want)
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	if names.Load() == 0 || descriptors.Load() == 0 {
		t.Error("nothing was opened")
	}
	r.Close()
	w.Close()
	if n := settled(0, func() int { return m.counts().Files }); n != 0 {
		t.Errorf("%d handles left: %+v", n, m.counts())
	}
}
