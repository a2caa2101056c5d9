package histories

import "slices"

// Shrink leaves steps out for as long as the history still goes wrong.
func Shrink(steps []Step, wrong []string, run func([]Step) (wrong []string)) ([]Step, []string) {
	for size := len(steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(steps); {
			fewer := slices.Concat(steps[:at], steps[at+size:])
			if w := run(fewer); len(w) > 0 {
				steps, wrong = fewer, w
			} else {
				at += size
			}
		}
	}
	return steps, wrong
}
