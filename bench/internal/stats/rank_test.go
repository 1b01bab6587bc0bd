package stats_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/bench/internal/stats"
)

func TestChance(t *testing.T) {
	t.Parallel()
	low, high := []float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}
	require.InDelta(t, 2.0/70, stats.Chance(low, high), 1e-9, "two of 70 ways are as far apart")
	require.InDelta(t, 2.0/70, stats.Chance(high, low), 1e-9)
	require.InDelta(t, 1, stats.Chance([]float64{1, 1}, []float64{1, 1}), 1e-9)
	require.InDelta(t, 1, stats.Chance([]float64{1, 4}, []float64{2, 3}), 1e-9)
	require.InDelta(t, 1, stats.Chance(nil, []float64{2, 3}), 1e-9)
}
