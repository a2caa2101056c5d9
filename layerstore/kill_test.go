package layerstore_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"strata/internal/oci"
	"strata/layerstore"
)

// jobEnv makes the test binary another program: "JOB ROOT ARGUMENTS...".
const jobEnv = "LAYERSTORE_TEST_JOB"

func TestMain(m *testing.M) {
	job := strings.Fields(os.Getenv(jobEnv))
	if len(job) == 0 {
		os.Exit(m.Run())
	}
	err := map[string]func([]string) error{
		"load": runLoader,
		"hold": func(args []string) error { return runHolder(args[0]) },
		"gc":   func(args []string) error { return runGC(args[0]) },
		"fsck": func(args []string) error { return runRepair(args[0]) },
	}[job[0]](job[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// jobCommand is the test binary as another program.
func jobCommand(tb testing.TB, job ...string) *exec.Cmd {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), jobEnv+"="+strings.Join(job, " "))
	cmd.Stderr = os.Stderr
	return cmd
}

// runLoader adds one blob to a store.
func runLoader(args []string) error {
	root, path, diffID := args[0], args[1], oci.DiffID(args[2])
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := layerstore.Open(root, layerstore.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err = s.AddLayer(context.Background(), diffID, layerstore.Source{}, f, layerstore.AddOptions{}); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status") // for checkMemory
	fmt.Print(string(status))
	return err
}

func startLoader(tb testing.TB, root, path string, diffID oci.DiffID, stdout io.Writer) *exec.Cmd {
	tb.Helper()
	cmd := jobCommand(tb, "load", root, path, string(diffID))
	cmd.Stdout = stdout
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	return cmd
}

// killBlob is a layer large enough to be hit in the middle of being loaded. Of
// two with different seeds, half of the contents are equal.
func killBlob(seed uint64) blob {
	var members []member
	for i := range 600 {
		own := seed * uint64(i%2)
		rng := rand.New(rand.NewPCG(own, uint64(i)))
		data := make([]byte, 8+rng.IntN(8<<10))
		if i%150 == 0 {
			data = make([]byte, 1500<<10) // more than is gathered in memory
		}
		for j := 0; j+8 <= len(data); j += 8 {
			binary.LittleEndian.PutUint64(data[j:], rng.Uint64())
		}
		members = append(members, file(fmt.Sprintf("d%d/f%d", i%37, i), string(data)))
	}
	return tarOf(members...)
}

// waitForObjects waits until a loader has written its first object. It
// returns false if the loader was done before that was seen.
func waitForObjects(root string, done <-chan error) bool {
	for {
		if found, _ := filepath.Glob(filepath.Join(root, "tmp", "*", "objects", "*")); len(found) > 0 {
			return true
		}
		select {
		case <-done:
			return false
		default:
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// TestKill kills loaders at random moments after their first object was
// written, each with another loader beside it, which must not care. What is
// left is whole, and loading again completes it.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	victim, bystander := killBlob(1), killBlob(2)
	for path, b := range map[string]blob{one: victim, two: bystander} {
		if err := os.WriteFile(path, b.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	s := openStore(t)
	if _, err := addBlob(t, s, victim); err != nil {
		t.Fatal(err)
	}
	usual := time.Since(start)
	t.Logf("a load takes %v", usual)

	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	late := 0
	for round := range rounds {
		root := filepath.Join(dir, fmt.Sprint("store", round))
		s := openStoreAt(t, root)
		loader := startLoader(t, root, one, victim.diffID, nil)
		done := make(chan error, 1)
		go func() { done <- loader.Wait() }()
		hit := waitForObjects(root, done)
		other := startLoader(t, root, two, bystander.diffID, nil)
		moment := rand.N(usual * 3 / 2)
		time.Sleep(moment)
		if err := loader.Process.Kill(); err != nil && hit {
			hit = false // it has ended
		}
		if hit {
			<-done
		}
		if err := other.Wait(); err != nil {
			t.Errorf("round %d: the loader beside it: %v", round, err)
		}
		t.Logf("round %d: killed %v after its first object; layer published: %v", round, moment, s.HasLayer(victim.diffID))
		if s.HasLayer(victim.diffID) {
			late++
		}
		if !s.HasLayer(bystander.diffID) {
			t.Errorf("round %d: the layer beside it is not there", round)
		}
		verifyStore(t, s)

		s = openStoreAt(t, root)
		checkNothingStaged(t, s)
		if _, err := addBlob(t, s, victim); err != nil {
			t.Errorf("round %d: loading again: %v", round, err)
		}
		verifyStore(t, s)
		layer, err := s.Layer(victim.diffID)
		if err != nil {
			t.Fatal(err)
		}
		layer.Close()
		checkNothingStaged(t, s)
		os.RemoveAll(root)
	}
	if late == rounds {
		t.Error("all kills came too late")
	}
}
