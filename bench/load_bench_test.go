package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"strata/internal/oci"
)

// BenchmarkLoad loads debian:12 into an empty store and, by turns, unpacks the
// same blob with tar and waits until it is on disk; then loads another image of
// which every content is known, but no layer is. Run it with -benchtime 7x for
// seven turns.
//
//	tar-s    tar -xzf blob && sync -f
//	load/tar    what loading takes, relative to that
//	known/tar   the same when all contents are known
//	peak-MB     the largest resident size of a load
func BenchmarkLoad(b *testing.B) {
	family := filepath.Join(images(b), "family")
	blob := layerBlob(b, family, "debian:12")
	bin := build(b)
	var tar, load, known []time.Duration
	var peak int64
	for b.Loop() {
		// Nothing is removed until the end: ext4 gives out inodes that were deleted a
		// moment ago only after a long search, and that would be measured.
		dir := b.TempDir()
		root, plain := filepath.Join(dir, "store"), filepath.Join(dir, "plain")
		if err := os.Mkdir(plain, 0o755); err != nil {
			b.Fatal(err)
		}
		loaded := func() {
			cmd := exec.Command(bin, "--root", root, "load", family, "debian:12")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("load: %v\n%s", err, out)
			}
			peak = max(peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
		}
		syscall.Sync()
		tar = append(tar, timed(func() { run(b, "sh", "-c", `tar -xzf "$1" -C "$2" && sync -f "$2"`, "sh", blob, plain) }))
		syscall.Sync()
		load = append(load, timed(loaded))
		forgetLayers(b, root)
		syscall.Sync()
		known = append(known, timed(loaded))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(tar), "tar-s")
	b.ReportMetric(median(load)/median(tar), "load/tar")
	b.ReportMetric(median(known)/median(tar), "known/tar")
	b.ReportMetric(float64(peak)/1024, "peak-MB")
}

// layerBlob finds the file that holds the base layer of an image.
func layerBlob(b *testing.B, layout, name string) string {
	b.Helper()
	archive, err := oci.OpenArchive(b.Context(), layout, oci.ArchiveOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer archive.Close()
	ref, err := oci.ParseReference(name)
	if err != nil {
		b.Fatal(err)
	}
	img, err := archive.Image(ref)
	if err != nil {
		b.Fatal(err)
	}
	return filepath.Join(layout, "blobs", "sha256", img.Layers[0].Digest.Hex())
}

// forgetLayers takes the layers away from a store and leaves the objects, so that
// the next load finds every content and no layer.
func forgetLayers(b *testing.B, root string) {
	b.Helper()
	layers, err := filepath.Glob(filepath.Join(root, "layers", "*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range layers {
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
}
