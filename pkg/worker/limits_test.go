package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// waits returns a worker whose task waits for the end of its context and
// returns its error.
func waits(opts ...HandleOption) *Worker {
	return workerOf(func(ctx context.Context, _ struct{}) (any, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("wait: %w", ctx.Err())
	}, opts...)
}

func TestSoftTimeLimitIsRetriedLikeAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var cause error
		w := workerOf(func(ctx context.Context, _ struct{}) (any, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil, fmt.Errorf("wait: %w", ctx.Err())
		}, WithSoftTimeLimit(time.Second), WithTimeLimit(time.Minute))

		o := w.handle(t.Context(), &messages.Task{Name: "t"}, nil)

		require.Equal(t, time.Second, time.Since(start))
		require.ErrorIs(t, cause, ErrSoftTimeLimit)
		require.Equal(t, messages.Retry, o.State)
		require.Equal(t, &messages.TaskError{
			Type: "SoftTimeLimitExceeded", Module: "billiard.exceptions",
			Message: "soft time limit of 1s exceeded: wait: context deadline exceeded",
		}, o.Err)
	})
}

func TestHandlerMayFinishAfterItsSoftTimeLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := workerOf(func(ctx context.Context, _ struct{}) (string, error) {
			<-ctx.Done()
			<-time.After(10 * time.Second) // cleans up
			return "half", nil
		}, WithSoftTimeLimit(time.Second))

		o := w.handle(t.Context(), &messages.Task{Name: "t"}, nil)

		require.Equal(t, messages.Success, o.State)
		require.JSONEq(t, `"half"`, string(o.Value))
	})
}

func TestErrorOfItsOwnIsKeptAfterTheSoftTimeLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := workerOf(func(ctx context.Context, _ struct{}) (any, error) {
			<-ctx.Done()
			return nil, Permanent(&customError{5})
		}, WithSoftTimeLimit(time.Second))

		o := w.handle(t.Context(), &messages.Task{Name: "t"}, nil)

		require.Equal(t, messages.ReasonPermanent, o.Reason)
		require.Equal(t, "CustomError", o.Err.Type)
	})
}

func TestTimeLimitFailsForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := waits(WithTimeLimit(2 * time.Second))

		o := w.handle(t.Context(), &messages.Task{Name: "t"}, nil)

		require.Equal(t, 2*time.Second, time.Since(start), "no grace for one that listens")
		require.Equal(t, delivery.Outcome{State: messages.Failure, Reason: messages.ReasonPermanent, Err: &messages.TaskError{
			Type: "TimeLimitExceeded", Module: "billiard.exceptions", Message: "time limit of 2s exceeded",
		}}, o)
		require.Zero(t, w.Abandoned())
	})
}

func TestLimitsOfTheMessageWin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := waits(WithTimeLimit(time.Hour), WithSoftTimeLimit(time.Minute))

		start := time.Now()
		o := w.handle(t.Context(), &messages.Task{Name: "t", TimeLimit: 3 * time.Second}, nil)
		require.Equal(t, "TimeLimitExceeded", o.Err.Type)
		require.Equal(t, 3*time.Second, time.Since(start))

		start = time.Now()
		o = w.handle(t.Context(), &messages.Task{Name: "t", SoftTimeLimit: 2 * time.Hour}, nil)
		require.Equal(t, "TimeLimitExceeded", o.Err.Type)
		require.Equal(t, time.Hour, time.Since(start))

		start = time.Now()
		o = w.handle(t.Context(), &messages.Task{Name: "t", SoftTimeLimit: 4 * time.Second}, nil)
		require.Equal(t, "SoftTimeLimitExceeded", o.Err.Type)
		require.Equal(t, 4*time.Second, time.Since(start))
	})
}

func TestStuckHandlerIsLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.ErrorLevel)
		w := New(Options{Log: zap.New(core)})
		release := make(chan struct{})
		var late error
		Handle(w, "t", func(ctx context.Context, _ struct{}) (any, error) {
			<-release
			late = Progress(ctx, 1, 1, nil)
			return "too late", nil
		}, WithTimeLimit(time.Second))
		start := time.Now()

		o := w.handle(t.Context(), &messages.Task{ID: "a", Name: "t"}, nil)

		require.Equal(t, time.Second+grace, time.Since(start))
		require.Equal(t, messages.Failure, o.State)
		require.Equal(t, messages.ReasonPermanent, o.Reason)
		require.Equal(t, "TimeLimitExceeded", o.Err.Type)
		require.EqualValues(t, 1, w.Abandoned())
		require.Equal(t, 1, logs.FilterMessage("handler left behind, it ignores the end of its context").Len())

		close(release)
		synctest.Wait()
		require.Zero(t, w.Abandoned(), "counted out when it has ended")
		require.ErrorIs(t, late, messages.ErrLost)
	})
}

// The handler returns in the moment in which it is given up.
func TestAbandonedIsCountedRightWhateverComesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := workerOf(func(context.Context, struct{}) (any, error) {
			<-time.After(time.Second + grace)
			return nil, nil
		}, WithTimeLimit(time.Second))
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				o := w.handle(t.Context(), &messages.Task{Name: "t"}, nil)
				if o.State != messages.Success && o.Reason != messages.ReasonPermanent {
					t.Errorf("neither done nor failed: %+v", o)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		require.Zero(t, w.Abandoned())
	})
}

func TestSuccessRightAfterTheTimeLimitCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := workerOf(func(ctx context.Context, _ struct{}) (string, error) {
			<-ctx.Done()
			<-time.After(grace / 2)
			return "done", nil
		}, WithTimeLimit(time.Second))

		require.Equal(t, messages.Success, w.handle(t.Context(), &messages.Task{Name: "t"}, nil).State)
	})
}

func TestInterruptedTaskIsGivenBack(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{ErrDrainTimeout, ErrLeaseLost, ErrCancelled, context.Canceled} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(cause) })

				for _, w := range []*Worker{
					waits(),
					waits(WithTimeLimit(time.Hour), WithMaxRetries(0)),
					failing(func() error { <-ctx.Done(); return Permanent(errors.New("stopped")) }),
					failing(func() error { <-ctx.Done(); panic("stopped") }),
				} {
					// The count of retries plays no part.
					o := w.handle(ctx, &messages.Task{Name: "t", Retries: 3}, nil)
					require.Equal(t, delivery.Outcome{}, o)
				}
			})
		})
	}
}

func TestSuccessStandsWhenTheWorkerStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(ErrDrainTimeout) })
		w := failing(func() error { <-ctx.Done(); return nil })

		require.Equal(t, messages.Success, w.handle(ctx, &messages.Task{Name: "t"}, nil).State)
	})
}

func TestStuckHandlerDoesNotStopTheShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(ErrDrainTimeout)
		release := make(chan struct{})
		w := failing(func() error { <-release; return nil })
		start := time.Now()

		o := w.handle(ctx, &messages.Task{Name: "t"}, nil)

		require.Equal(t, delivery.Outcome{}, o)
		require.Equal(t, grace, time.Since(start))
		require.EqualValues(t, 1, w.Abandoned())
		close(release)
		synctest.Wait()
		require.Zero(t, w.Abandoned())
	})
}

func TestCauseReachesTheHandler(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrDrainTimeout)
	var cause error
	w := workerOf(func(ctx context.Context, _ struct{}) (any, error) {
		cause = context.Cause(ctx)
		return nil, ctx.Err()
	}, WithTimeLimit(time.Hour), WithSoftTimeLimit(time.Minute))

	w.handle(ctx, &messages.Task{Name: "t"}, nil)

	require.ErrorIs(t, cause, ErrDrainTimeout)
}
