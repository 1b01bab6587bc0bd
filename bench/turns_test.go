package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

func emptyBench() *bench {
	return &bench{
		settings: settings{Rounds: 2, Limit: time.Minute, Within: time.Minute}, stack: &stack.Stack{}, book: &report.Book{}, begun: time.Now(),
	}
}

func TestContenderThatFailsDoesNotLoseTheOthers(t *testing.T) {
	t.Parallel()
	b := emptyBench()
	var turns []string
	names := []string{"a", "b", "c"}
	require.NoError(t, b.turns(t.Context(), "m", b.Rounds, names, func(_ context.Context, i int) error {
		turns = append(turns, names[i])
		if i == 1 {
			return errors.New("it is gone")
		}
		b.book.Add("m", names[i], "1/s", 1)
		return nil
	}))
	require.Equal(t, []string{"a", "b", "c", "c", "a"}, turns)
	require.Equal(t, 1, b.book.Failures())
	var out strings.Builder
	require.NoError(t, b.book.WriteTable(&out))
	require.Contains(t, out.String(), "failed: it is gone")
}

func TestTurnThatTakesTooLongFails(t *testing.T) {
	t.Parallel()
	b := emptyBench()
	b.Limit = time.Millisecond
	require.NoError(t, b.turns(t.Context(), "m", 1, []string{"a"}, func(ctx context.Context, _ int) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}))
	require.Equal(t, 1, b.book.Failures())
}

func TestTurnsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	b := emptyBench()
	ctx, cancel := context.WithCancel(t.Context())
	err := b.turns(ctx, "m", 1, []string{"a", "b"}, func(ctx context.Context, i int) error {
		require.Zero(t, i)
		cancel()
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.book.Failures())
}

func TestOnlyOneRoundWhenTimeIsShort(t *testing.T) {
	t.Parallel()
	b := emptyBench()
	b.Within = 0
	turns := 0
	require.NoError(t, b.turns(t.Context(), "m", b.Rounds, []string{"a"}, func(context.Context, int) error {
		turns++
		return nil
	}))
	require.Equal(t, 1, turns)
}

func TestOwnPartIsThatOfSubmittingAndOfWorkingOff(t *testing.T) {
	t.Parallel()
	b := emptyBench()
	for _, v := range []struct {
		suffix  string
		in, out float64
	}{{"", 200, 100}, {"-service", 60, 50}, {"-load", 50, 30}} {
		b.book.Add("submit-64-cpu"+v.suffix, ours, "µs", v.in)
		b.addOwn()
		b.book.Add("drain-noop-cpu"+v.suffix, ours, "µs", v.out)
	}
	b.addOwn()
	b.addOwn()
	require.Equal(t, []float64{50}, b.book.Values(ownMeasure, ours))
}

func TestEveryTargetIsOfAMeasureThatIsOurs(t *testing.T) {
	t.Parallel()
	list := aims()
	require.NotEmpty(t, list)
	for i, a := range list {
		require.Equal(t, ours, a.Ours)
		require.NotContains(t, list[:i], a)
	}
	require.True(t, slices.ContainsFunc(list, func(a report.Aim) bool { return a.Measure == ownMeasure }))
}
