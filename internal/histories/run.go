package histories

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
)

// Run is some histories in a row, whose seeds follow each other.
type Run struct {
	What  string // the worlds
	Seed  uint64 // of the first
	Count int
	Steps int // how many were made in all
}

// RunFromEnv is a run of the usual number of histories, from a seed that nobody knows.
// STRATA_HISTORIES and STRATA_SEED change that.
func RunFromEnv(what string, usual int) *Run {
	r := &Run{What: what, Seed: rand.Uint64() >> 1, Count: usual}
	if n, err := strconv.Atoi(os.Getenv("STRATA_HISTORIES")); err == nil {
		r.Count = n
	}
	if n, err := strconv.ParseUint(os.Getenv("STRATA_SEED"), 10, 64); err == nil {
		r.Seed = n
	}
	return r
}

// Done says that none of them differed. STRATA_RESULT is a file that is told, too.
func (r *Run) Done() error {
	to := os.Getenv("STRATA_RESULT")
	if to == "" {
		return nil
	}
	f, err := os.OpenFile(to, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%-12s %6d histories, seeds %d to %d, %9d steps, differing: 0\n",
		r.What, r.Count, r.Seed, r.Seed+uint64(r.Count)-1, r.Steps)
	return err
}
