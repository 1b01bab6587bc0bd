package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Func is one attempt of a task, as a middleware sees it: from the message to
// the result in JSON.
type Func func(ctx context.Context, t *messages.Task) (json.RawMessage, error)

// Middleware puts something around an attempt. It may change the context, the
// task and what comes of it, and it runs in the goroutine of the handler.
type Middleware func(next Func) Func

func chain(around []Middleware, f Func) Func {
	for _, m := range slices.Backward(around) {
		f = m(f)
	}
	return f
}

// PanicError is a panic that [Recover] has made an error of.
type PanicError struct {
	Reason any
	Stack  []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Reason) }

// Recover makes an error of a panic, a [*PanicError], for the middleware around
// it to see. Without it a panic ends the attempt all the same, as an error does,
// but passes through everything that is around the handler. It goes last.
func Recover() Middleware {
	return func(next Func) Func {
		return func(ctx context.Context, t *messages.Task) (value json.RawMessage, err error) {
			defer func() {
				if reason := recover(); reason != nil {
					value, err = nil, &PanicError{Reason: reason, Stack: debug.Stack()}
				}
			}()
			return next(ctx, t)
		}
	}
}

// Log writes a line at the end of each attempt: info for a success, warn for an
// error, each with the time that it took. The lines carry the task and the
// attempt, as those of [Logger] do.
func Log() Middleware {
	return func(next Func) Func {
		return func(ctx context.Context, t *messages.Task) (json.RawMessage, error) {
			begun := time.Now()
			value, err := next(ctx, t)
			if took := zap.Duration("took", time.Since(begun)); err != nil {
				Logger(ctx).Warn("attempt failed", took, zap.Error(err))
			} else {
				Logger(ctx).Info("attempt succeeded", took)
			}
			return value, err
		}
	}
}
