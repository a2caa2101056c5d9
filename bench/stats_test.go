package bench

import (
	"math"
	"testing"
)

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   Summary
	}{
		{"one", []float64{3}, Summary{Median: 3, Min: 3, Max: 3}},
		{"two", []float64{3, 1}, Summary{Median: 2, Min: 1, Max: 3, Spread: 0.5}},
		{"odd, in any order", []float64{5, 1, 4, 2, 3}, Summary{Median: 3, Min: 1, Max: 5, Spread: 2. / 3}},
		{"an outlier does not move the median", []float64{1, 1, 1, 1, 100}, Summary{Median: 1, Min: 1, Max: 100}},
		{"nothing at all", []float64{0, 0, 0}, Summary{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Summarize(c.values)
			if got.Median != c.want.Median || got.Min != c.want.Min || got.Max != c.want.Max || math.Abs(got.Spread-c.want.Spread) > 1e-9 {
				t.Errorf("Summarize(%v) = %+v, want %+v", c.values, got, c.want)
			}
		})
	}
}

func TestSummarizeKeepsTheOrderOfItsValues(t *testing.T) {
	values := []float64{3, 1, 2}
	Summarize(values)
	if values[0] != 3 || values[1] != 1 {
		t.Errorf("the values are now %v", values)
	}
}

func TestShownValues(t *testing.T) {
	for _, c := range []struct {
		got, want string
	}{
		{Seconds(0), "0ns"},
		{Seconds(123e-9), "123ns"},
		{Seconds(12.34e-6), "12.3µs"},
		{Seconds(1.5e-3), "1.50ms"},
		{Seconds(61), "61.0s"},
		{Bytes(0), "0B"},
		{Bytes(999.7), "1.00kB"},
		{Bytes(8.34e6), "8.34MB"},
		{Bytes(2.5e9), "2.50GB"},
		{Bytes(3e12), "3000GB"},
		{Times(0), ""},
		{Times(0.00004), "4e-05x"},
		{Times(0.0123), "0.012x"},
		{Times(1), "1.00x"},
		{Times(12.34), "12.3x"},
		{Times(440), "440x"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}
