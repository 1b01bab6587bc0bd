package tasks

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
)

// recorded returns the context of a task whose progress goes to the slice, and
// whose store answers err.
func recorded(ctx context.Context, into *[]messages.ProgressInfo, err error) context.Context {
	return worker.WithTask(ctx, &messages.Task{ID: "id-1"}, nil, func(_ context.Context, p messages.ProgressInfo) error {
		*into = append(*into, p)
		return err
	})
}

func TestSleepReportsItsProgressEverySecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []messages.ProgressInfo
		start := time.Now()

		out, err := newSleeper(Config{}.withDefaults()).run(recorded(t.Context(), &seen, nil), sleepIn{Duration: 4})

		require.NoError(t, err)
		require.Equal(t, sleepOut{Slept: 4}, out)
		require.Equal(t, 4*time.Second, time.Since(start))
		require.Equal(t, []messages.ProgressInfo{
			{Current: 1, Total: 4, Percent: 25},
			{Current: 2, Total: 4, Percent: 50},
			{Current: 3, Total: 4, Percent: 75},
			{Current: 4, Total: 4, Percent: 100},
		}, seen)
	})
}

func TestSleepTakesFractionsOfASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []messages.ProgressInfo

		out, err := newSleeper(Config{}.withDefaults()).run(recorded(t.Context(), &seen, nil), sleepIn{Duration: 1.6})

		require.NoError(t, err)
		require.Equal(t, sleepOut{Slept: 1.6}, out)
		require.Equal(t, []messages.ProgressInfo{
			{Current: 1, Total: 1.6, Percent: 62.5},
			{Current: 1.6, Total: 1.6, Percent: 100},
		}, seen)
	})
}

func TestSleepBeyondTheMaximumFailsForGood(t *testing.T) {
	t.Parallel()
	s := newSleeper(Config{SleepMax: 10 * time.Second})

	_, err := s.run(t.Context(), sleepIn{Duration: 10.5})

	requirePermanent(t, err)
	require.EqualError(t, err, "duration: 10.5s is more than the 10s that this worker allows (LOVAGE_SLEEP_MAX)")
}

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		start := time.Now()

		_, err := newSleeper(Config{}.withDefaults()).run(ctx, sleepIn{Duration: 300})

		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireTemporary(t, err)
		require.Equal(t, 1500*time.Millisecond, time.Since(start))
	})
}

func TestSleepEndsWhenAnotherWorkerHasTheTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []messages.ProgressInfo

		_, err := newSleeper(Config{}.withDefaults()).run(recorded(t.Context(), &seen, messages.ErrLost), sleepIn{Duration: 300})

		require.ErrorIs(t, err, messages.ErrLost)
		require.Len(t, seen, 1)
	})
}

func TestSleepGoesOnWhenProgressCannotBeStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []messages.ProgressInfo

		_, err := newSleeper(Config{}.withDefaults()).run(recorded(t.Context(), &seen, messages.ErrStoreUnavailable), sleepIn{Duration: 3})

		require.NoError(t, err)
		require.Len(t, seen, 3)
	})
}

func requirePermanent(t *testing.T, err error) {
	t.Helper()
	var permanent *worker.PermanentError
	require.ErrorAs(t, err, &permanent)
}

func requireTemporary(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	var permanent *worker.PermanentError
	require.NotErrorAs(t, err, &permanent)
}
