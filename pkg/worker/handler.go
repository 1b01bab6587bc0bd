package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// grace is how long a handler may take to return once its context has
	// ended for good, before it is left behind.
	grace = time.Second
	// maxDelay is the longest delay that the broker's ladder can hold.
	maxDelay = (1<<28 - 1) * time.Second
)

// RunAttempt runs one claimed attempt, whoever claimed it. It is there for package
// workertest; programs call [Worker.Run].
func (w *Worker) RunAttempt(ctx context.Context, t *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
	return w.handle(ctx, t, progress)
}

// handle runs one claimed attempt and decides what becomes of the task; this
// is the only place that does. It returns once the handler has, or a second
// after ctx or the attempt's time limit has ended: a slot is never lost to a
// handler that does not look at its context. progress stores a PROGRESS record.
func (w *Worker) handle(ctx context.Context, t *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
	h, known := w.handlers[t.Name]
	if !known {
		return notRegistered(t.Name)
	}
	run := &running{task: t, progress: ProgressFunc(progress), log: w.log}
	run.kept = w.keepLog(h, t)
	defer run.end()

	hardCtx, cancel := limited(context.WithValue(ctx, runningKey{}, run), limitOf(t.TimeLimit, h.hard), ErrTimeLimit)
	defer cancel()
	softCtx := hardCtx
	if soft := limitOf(t.SoftTimeLimit, h.soft); soft > 0 {
		softCtx, cancel = limited(hardCtx, soft, ErrSoftTimeLimit)
		defer cancel()
	}

	a := w.start(softCtx, h, t)
	var r report
	select {
	case r = <-a.done:
	case <-hardCtx.Done():
		r = a.await(grace, run.logging(traceIDOf(t.TraceParent)))
	}
	o := h.conclude(t, r, context.Cause(hardCtx), context.Cause(softCtx))
	o.Retention, o.PackAbove = h.retention, h.compressAbove
	return o
}

// conclude applies the rules to what came of an attempt. hard and soft are why
// the contexts with those limits ended, nil when they have not.
func (h *handler) conclude(t *messages.Task, r report, hard, soft error) delivery.Outcome {
	if r.err == nil && !r.abandoned {
		return delivery.Outcome{State: messages.Success, Value: r.value}
	}
	if errors.Is(hard, ErrTimeLimit) {
		return failure(messages.ReasonPermanent, timeLimitError(limitOf(t.TimeLimit, h.hard)))
	}
	if hard != nil {
		// Interrupted from outside: whatever the handler says now, it says
		// because it was stopped. Somebody else runs the attempt again.
		return delivery.Outcome{}
	}
	if r.interrupted && errors.Is(soft, ErrSoftTimeLimit) {
		r.err = softTimeLimitError(limitOf(t.SoftTimeLimit, h.soft), r.err)
	}
	switch {
	case r.invalid:
		return failure(messages.ReasonInvalidInput, r.err)
	case r.permanent:
		return failure(messages.ReasonPermanent, r.err)
	case t.Retries >= h.retryLimit(t):
		return failure(messages.ReasonRetriesExhausted, r.err)
	case r.retryAfter != nil:
		return delivery.Outcome{State: messages.Retry, Err: r.err, RetryIn: min(*r.retryAfter, maxDelay)}
	}
	return delivery.Outcome{State: messages.Retry, Err: r.err, RetryIn: min(h.backoff.Delay(t.Retries, nil), maxDelay)}
}

func (h *handler) retryLimit(t *messages.Task) int {
	if t.MaxRetries != nil {
		return *t.MaxRetries
	}
	return h.maxRetries
}

func failure(reason messages.Reason, err *messages.TaskError) delivery.Outcome {
	return delivery.Outcome{State: messages.Failure, Reason: reason, Err: err}
}

// limited is ctx with a limit, where there is one.
func limited(ctx context.Context, limit time.Duration, cause error) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit, cause)
}

// limitOf prefers the limit of the message to that of the handler.
func limitOf(own, registered time.Duration) time.Duration {
	if own > 0 {
		return own
	}
	return registered
}

// attempt is a handler at work in a goroutine of its own.
type attempt struct {
	worker *Worker
	done   chan report
	state  atomic.Int32
}

// The states of an attempt: whoever leaves running first wins.
const (
	stateRunning int32 = iota
	stateReturned
	stateAbandoned
)

func (w *Worker) start(ctx context.Context, h *handler, t *messages.Task) *attempt {
	a := &attempt{worker: w, done: make(chan report, 1)}
	go a.run(ctx, h, t)
	return a
}

// run calls the user's code and survives whatever it does.
func (a *attempt) run(ctx context.Context, h *handler, t *messages.Task) {
	var r report
	returned := false
	defer func() {
		if !returned {
			// Also when the handler called runtime.Goexit, with nothing
			// to recover.
			p := &PanicError{Reason: recover(), Stack: debug.Stack()}
			r = report{err: panicError(p.Reason, p.Stack), permanent: h.hopeless(p)}
		}
		a.done <- r
		if !a.state.CompareAndSwap(stateRunning, stateReturned) {
			a.worker.abandoned.Add(-1)
		}
	}()
	value, err := h.call(labelled(ctx, t), t)
	r = h.report(value, err)
	returned = true
}

// await gives a handler whose context has ended a last moment, then leaves it
// behind.
func (a *attempt) await(d time.Duration, log *zap.Logger) report {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case r := <-a.done:
		return r
	case <-timer.C:
	}
	a.worker.abandoned.Add(1)
	if !a.state.CompareAndSwap(stateRunning, stateAbandoned) {
		a.worker.abandoned.Add(-1)
		return <-a.done
	}
	log.Error("handler left behind, it ignores the end of its context", zap.Int64("abandoned", a.worker.Abandoned()))
	return report{abandoned: true}
}

// report is what an attempt came to. It is made in the goroutine of the
// attempt, because asking an error anything runs the user's code.
type report struct {
	value       []byte
	err         *messages.TaskError
	abandoned   bool
	invalid     bool
	permanent   bool
	interrupted bool
	retryAfter  *time.Duration
}

func (h *handler) report(value []byte, err error) report {
	if err == nil {
		return report{value: value}
	}
	r := report{err: describe(err), permanent: h.hopeless(err)}
	_, r.invalid = errors.AsType[*InvalidInputError](err)
	if retry, ok := errors.AsType[*RetryError](err); ok {
		r.retryAfter = &retry.After
	}
	for _, end := range []error{context.DeadlineExceeded, context.Canceled, ErrSoftTimeLimit} {
		r.interrupted = r.interrupted || errors.Is(err, end)
	}
	return r
}

func notRegistered(name string) delivery.Outcome {
	return failure(messages.ReasonUnknownTask, &messages.TaskError{
		Type: "NotRegistered", Module: "celery.exceptions",
		Message: fmt.Sprintf("no task %q is registered with this worker", name), Args: jsonStrings(name),
	})
}
