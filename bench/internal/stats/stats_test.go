package stats_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/bench/internal/stats"
)

func TestSummaryIsMedianAndExtremes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   stats.Summary
	}{
		{[]float64{7}, stats.Summary{Median: 7, Min: 7, Max: 7}},
		{[]float64{9, 1, 5}, stats.Summary{Median: 5, Min: 1, Max: 9}},
		{[]float64{4, 1, 3, 2}, stats.Summary{Median: 2.5, Min: 1, Max: 4}},
	} {
		require.Equal(t, c.want, stats.Summarize(c.values))
	}
}

func TestSummaryOfNothingIsNoNumber(t *testing.T) {
	t.Parallel()
	require.True(t, math.IsNaN(stats.Summarize(nil).Median))
}

func TestSummarizingLeavesTheOrderOfRounds(t *testing.T) {
	t.Parallel()
	rounds := []float64{3, 1, 2}
	stats.Summarize(rounds)
	require.Equal(t, []float64{3, 1, 2}, rounds)
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	t.Parallel()
	require.Equal(t, []float64{0.5, 2}, stats.Ratios([]float64{1, 4, 9}, []float64{2, 2}))
}
