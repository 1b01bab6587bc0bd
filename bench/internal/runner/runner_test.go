package runner

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEvery20thTaskFailsAtFirst(t *testing.T) {
	t.Parallel()
	task, failed := Task{Kind: Retry}, 0
	for range 100 {
		if task.Do(t.Context(), 1) != nil {
			failed++
			require.NoError(t, task.Do(t.Context(), 2))
		}
	}
	require.Equal(t, 5, failed)
}

func TestEveryKindRuns(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		task := Task{Kind: kind, Bytes: 100_000}
		require.NoError(t, task.Do(t.Context(), 1), kind)
	}
	require.Positive(t, Calibrate())
	require.Len(t, InputOf(Payload).Pad, 10_000)
	require.Empty(t, InputOf(Noop).Pad)
}

func TestPickUpCountsFromTheConfirm(t *testing.T) {
	t.Parallel()
	p := PickUp{Tasks: 2, Rate: 100, Slots: 1}
	now := time.Now()
	p.at("late", func(m *moments) { m.confirmed, m.begun = now, now.Add(3*time.Millisecond) })
	p.at("early", func(m *moments) { m.confirmed, m.begun = now, now.Add(-time.Millisecond) })
	p.at("of another", func(m *moments) { m.begun = now })
	require.Equal(t, map[string]float64{"p50": 0, "p99": 0, "max": 3}, p.Result())
	require.Equal(t, 2*time.Millisecond, Busy(1, 100))
}

func TestProgressEndsWhenTheTasksAreSettled(t *testing.T) {
	t.Parallel()
	var p Progress
	p.Started()
	p.Done.Add(2)
	asked := 0
	require.NoError(t, p.Await(t.Context(), 2, func() (bool, error) {
		asked++
		return asked == 2, nil
	}))
	require.Equal(t, 2, asked)
	require.EqualValues(t, 2, p.Settled())
	p.Busy(func() int { return 1 })
	require.EqualValues(t, 1, p.Settled())
	require.Positive(t, p.answer())
	p.Tell("other")
	require.Equal(t, "other", p.answer())

	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, p.Await(ended, 3, nil), context.Canceled)
}
