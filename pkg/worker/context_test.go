package worker

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestHandlerFindsItsTaskInTheContext(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	w := New(Options{Log: zap.New(core)})
	var seen []messages.ProgressInfo
	var outlived func() error
	Handle(w, "t", func(ctx context.Context, _ struct{}) (any, error) {
		require.Equal(t, "id-1", TaskID(ctx))
		require.Equal(t, 3, Attempt(ctx))
		require.Equal(t, "00-trace", TraceParent(ctx))
		Logger(ctx).Info("hello")
		outlived = func() error { return Progress(ctx, 1, 2, nil) }
		return nil, errors.Join(
			Progress(ctx, 1, 4, map[string]string{"step": "one"}),
			Progress(ctx, 1, 0, nil),
		)
	})
	task := &messages.Task{ID: "id-1", Name: "t", Retries: 2, TraceParent: "00-trace"}

	o := w.handle(t.Context(), task, func(_ context.Context, p messages.ProgressInfo) error {
		seen = append(seen, p)
		return nil
	})

	require.Equal(t, messages.Success, o.State)
	require.Equal(t, []messages.ProgressInfo{
		{Current: 1, Total: 4, Percent: 25, Meta: json.RawMessage(`{"step":"one"}`)},
		{Current: 1},
	}, seen)
	require.Equal(t, map[string]any{"task_id": "id-1", "task": "t", "attempt": int64(3)}, logs.All()[0].ContextMap())
	require.ErrorIs(t, outlived(), messages.ErrLost, "no progress after the outcome")
	require.Len(t, seen, 2)
}

func TestProgressReturnsWhatTheStoreSays(t *testing.T) {
	t.Parallel()
	ctx := WithTask(t.Context(), &messages.Task{ID: "a"}, nil, func(context.Context, messages.ProgressInfo) error {
		return messages.ErrStoreUnavailable
	})
	require.ErrorIs(t, Progress(ctx, 1, 2, nil), messages.ErrStoreUnavailable)
	require.ErrorContains(t, Progress(ctx, math.NaN(), 2, nil), "finite")
	require.ErrorContains(t, Progress(ctx, 1, math.Inf(1), nil), "finite")
	require.ErrorContains(t, Progress(ctx, 1, 2, func() {}), "encode meta")
	require.NoError(t, Progress(WithTask(t.Context(), &messages.Task{}, nil, nil), 1, 2, nil))
}

func TestContextAccessorsOutsideOfAHandler(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	require.Empty(t, TaskID(ctx))
	require.Empty(t, TraceParent(ctx))
	require.Zero(t, Attempt(ctx))
	require.NotNil(t, Logger(ctx))
	require.ErrorIs(t, Progress(ctx, 1, 2, nil), ErrNoTask)
}

func TestPercent(t *testing.T) {
	t.Parallel()
	tests := []struct{ current, total, want float64 }{
		{0, 10, 0},
		{1, 3, 33.33},
		{10, 10, 100},
		{11, 10, 100},
		{-1, 10, 0},
		{5, 0, 0},
		{0, 0, 0},
		{5, -1, 0},
		{math.MaxFloat64, math.MaxFloat64, 100},
		{math.MaxFloat64, math.SmallestNonzeroFloat64, 100},
	}
	for _, tt := range tests {
		require.InDelta(t, tt.want, percent(tt.current, tt.total), 1e-9, "%v of %v", tt.current, tt.total)
	}
}
