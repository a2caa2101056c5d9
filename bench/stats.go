package bench

import (
	"math"
	"slices"
)

// Summary is what several measurements of one thing come to.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Spread is the distance between the quartiles, relative to the median: half
	// of the measurements lie within it. Zero for fewer than two.
	Spread float64 `json:"spread"`
}

// Summarize needs at least one value.
func Summarize(values []float64) Summary {
	v := slices.Sorted(slices.Values(values))
	s := Summary{Median: quantile(v, 0.5), Min: v[0], Max: v[len(v)-1]}
	if s.Median != 0 {
		s.Spread = (quantile(v, 0.75) - quantile(v, 0.25)) / math.Abs(s.Median)
	}
	return s
}

// Rough tells whether half of the measurements differ by more than a quarter of
// the median.
func (s *Summary) Rough() bool { return s.Spread > 0.25 }

// quantile interpolates between the two nearest of the sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(at)
	if below+1 == len(sorted) {
		return sorted[below]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// Ratio is how many times b the value a is, zero if that cannot be said.
func Ratio(a, b float64) float64 {
	if b <= 0 || a < 0 {
		return 0
	}
	return a / b
}
