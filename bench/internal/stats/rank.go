package stats

import (
	"slices"
)

// Chance is the probability that two series with nothing between them differ as
// much as these, or more: the exact two-sided test of Mann, Whitney and Wilcoxon,
// with mean ranks for equal values. It is 1 when either has no values.
func Chance(x, y []float64) float64 {
	ranks := doubledRanks(x, y)
	sum, total := 0, 0
	for i, r := range ranks {
		total += r
		if i < len(x) {
			sum += r
		}
	}
	// How often each sum comes of so many ranks, of all ways to choose them.
	ways := make([]map[int]float64, len(x)+1)
	for i := range ways {
		ways[i] = map[int]float64{}
	}
	ways[0][0] = 1
	for _, r := range ranks {
		for n := len(x); n > 0; n-- {
			for s, count := range ways[n-1] {
				ways[n][s+r] += count
			}
		}
	}
	// Distances from the mean, times the number of ranks to stay whole.
	away := func(s int) int {
		d := s*len(ranks) - total*len(x)
		return max(d, -d)
	}
	var all, farther float64
	for s, count := range ways[len(x)] {
		all += count
		if away(s) >= away(sum) {
			farther += count
		}
	}
	return farther / all
}

// doubledRanks are twice the ranks of all values among them all.
func doubledRanks(x, y []float64) []int {
	values := slices.Concat(x, y)
	ranks := make([]int, len(values))
	for i, v := range values {
		below, equal := 0, 0
		for _, other := range values {
			if other < v {
				below++
			}
			if other == v {
				equal++
			}
		}
		ranks[i] = 2*below + equal + 1
	}
	return ranks
}
