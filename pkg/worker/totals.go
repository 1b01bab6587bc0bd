package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// totals count what this worker has done, for its sign of life.
type totals struct {
	succeeded, failed, retried, revoked atomic.Int64
	runs                                [len(messages.Spread{})]atomic.Int64
}

// around counts each attempt that has an outcome.
func (t *totals) around(run delivery.Handler) delivery.Handler {
	return func(ctx context.Context, task *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
		begun := time.Now()
		o := run(ctx, task, progress)
		switch o.State {
		case messages.Success:
			t.succeeded.Add(1)
		case messages.Failure:
			t.failed.Add(1)
		case messages.Retry:
			t.retried.Add(1)
		case messages.Revoked:
			t.revoked.Add(1)
		default:
			return o // it goes back to the queue
		}
		t.runs[messages.Spread{}.Place(time.Since(begun))].Add(1)
		return o
	}
}

func (t *totals) read() messages.WorkerTotals {
	w := messages.WorkerTotals{
		Succeeded: t.succeeded.Load(), Failed: t.failed.Load(), Retried: t.retried.Load(), Revoked: t.revoked.Load(),
	}
	for i := range t.runs {
		w.Runs[i] = t.runs[i].Load()
	}
	return w
}
