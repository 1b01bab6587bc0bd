package messages_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestSpreadTellsQuantiles(t *testing.T) {
	t.Parallel()
	var s messages.Spread
	require.True(t, math.IsNaN(s.Quantile(0.5)))
	for range 90 {
		s[s.Place(3*time.Millisecond)]++
	}
	for range 10 {
		s[s.Place(time.Second)]++
	}
	require.InDelta(t, 0.003, s.Quantile(0.5), 0.001)
	require.InDelta(t, 0.7, s.Quantile(0.95), 0.4)
	require.Equal(t, 0, s.Place(0))
	require.Equal(t, len(s)-1, s.Place(time.Hour))
	require.Equal(t, len(s)-1, s.Place(300*time.Second))
	require.Equal(t, len(s)-2, s.Place(262*time.Second))
}

func TestTotalsAreCompared(t *testing.T) {
	t.Parallel()
	before := messages.WorkerTotals{Succeeded: 3, Failed: 1, Runs: messages.Spread{2, 2}}
	later := messages.WorkerTotals{Succeeded: 5, Failed: 1, Retried: 1, Runs: messages.Spread{4, 2, 1}}
	done := later.Minus(before)
	require.Equal(t, messages.WorkerTotals{Succeeded: 2, Retried: 1, Runs: messages.Spread{2, 0, 1}}, done)
	require.Equal(t, later, before.Plus(done))
}
