package worker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// Why the context of a handler ended: [context.Cause] of it is, or wraps, one
// of these.
var (
	// ErrSoftTimeLimit: the soft time limit has passed, the handler should
	// come to an end.
	ErrSoftTimeLimit = errors.New("soft time limit exceeded")
	// ErrTimeLimit: the time limit has passed; whatever error the handler
	// returns, the task has failed.
	ErrTimeLimit = errors.New("time limit exceeded")
	// ErrDrainTimeout: the worker shuts down and waits no longer. The task is
	// given back as it was, with its count of retries, and runs elsewhere.
	ErrDrainTimeout = errors.New("worker shuts down")
	// ErrCancelled: somebody cancelled the task.
	ErrCancelled = delivery.ErrCancelled
	// ErrLeaseLost: the worker could not renew its hold on the task, another
	// may run it by now. What this one returns is dropped.
	ErrLeaseLost = delivery.ErrLeaseLost
)

// PermanentError marks an error that no retry can mend. Make one with
// [Permanent], find one with [errors.As].
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the error that was marked.
func (e *PermanentError) Unwrap() error { return e.Err }

// Permanent marks err so that the task fails at once: it is stored as FAILURE
// and its message becomes a dead letter, whatever retries are left. It may be
// wrapped further. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &PermanentError{Err: err}
}

// RetryError asks for the next attempt at a certain time. Make one with
// [RetryAfter], find one with [errors.As].
type RetryError struct {
	After time.Duration
	Err   error
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the reason for the retry.
func (e *RetryError) Unwrap() error { return e.Err }

// RetryAfter asks for the next attempt after d instead of after the task's
// backoff. It counts as a retry: when none is left the task fails. A negative d
// means at once, a nil err that there is nothing more to say.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		err = errors.New("retry requested")
	}
	return &RetryError{After: max(d, 0), Err: err}
}

// ResultTooLargeError says that a handler has returned more than may be stored.
// The task fails for good.
type ResultTooLargeError struct {
	// Size is that of the result in JSON, Limit is [Options].MaxResult, in bytes.
	Size, Limit int
}

func (e *ResultTooLargeError) Error() string {
	return fmt.Sprintf("the result has %d bytes, the limit is %d (MaxResult of the worker's options, LOVAGE_MAX_RESULT): "+
		"store it elsewhere and return where it is", e.Size, e.Limit)
}

// InvalidInputError lists every field of a task's input that breaks the task's
// schema. Such a task fails without having run.
type InvalidInputError struct {
	// Fields name the field by a JSON Pointer, "" for the input as a whole.
	Fields []*messages.InvalidError
}

// maxListedFields bounds the text of an [InvalidInputError].
const maxListedFields = 50

func (e *InvalidInputError) Error() string {
	parts := make([]string, 0, min(len(e.Fields), maxListedFields)+1)
	for i, field := range e.Fields {
		if i == maxListedFields {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.Fields)-i))
			break
		}
		if field.Field == "" {
			parts = append(parts, field.Rule)
			continue
		}
		parts = append(parts, field.Error())
	}
	return "invalid input: " + strings.Join(parts, "; ")
}

// Unwrap returns the complaints one by one.
func (e *InvalidInputError) Unwrap() []error {
	errs := make([]error, 0, len(e.Fields))
	for _, field := range e.Fields {
		errs = append(errs, field)
	}
	return errs
}
