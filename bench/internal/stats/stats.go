// Package stats says what several rounds of a measurement have in common.
package stats

import (
	"math"
	"slices"
)

// Summary is what several values come to.
type Summary struct{ Median, Min, Max float64 }

// Summarize returns the median and the extremes. Without values all are NaN.
func Summarize(values []float64) Summary {
	if len(values) == 0 {
		return Summary{math.NaN(), math.NaN(), math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Summary{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// Ratios divides round by round: what disturbs one round disturbs both sides of
// it. Rounds that only one side has are left out.
func Ratios(values, bases []float64) []float64 {
	n := min(len(values), len(bases))
	out := make([]float64, n)
	for i := range n {
		out[i] = values[i] / bases[i]
	}
	return out
}
