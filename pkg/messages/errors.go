package messages

import (
	"errors"
	"fmt"
	"time"
)

// The outcomes of a publish that is not confirmed. Each is wrapped with what
// happened; test with [errors.Is].
var (
	// ErrBrokerUnavailable: the broker is down, hung or blocked; nothing was
	// sent. Safe to send again.
	ErrBrokerUnavailable = errors.New("broker unavailable, message not sent")
	// ErrNotSent: the deadline came before the write; nothing was sent.
	ErrNotSent = errors.New("deadline before the message was sent")
	// ErrQueueMissing: the broker returned the message, no queue took it.
	ErrQueueMissing = errors.New("queue does not exist")
	// ErrQueueUnavailable: the broker answers, but not for this queue (lost
	// quorum); nothing was sent. Safe to send again.
	ErrQueueUnavailable = errors.New("queue does not confirm")
	// ErrRefused: the broker refused the message (nack).
	ErrRefused = errors.New("broker refused the message")
	// ErrOverloaded: as many messages as allowed are in flight; not sent.
	ErrOverloaded = errors.New("too many messages in flight, message not sent")
	// ErrQueueFull: as many messages as allowed wait in the queue; not sent.
	ErrQueueFull = errors.New("queue is full, message not sent")
	// ErrUnconfirmed: it was sent, but the deadline came before the broker's
	// word. It may or may not be in the queue; only the same id is a safe
	// second try.
	ErrUnconfirmed = errors.New("message sent, outcome unknown")
)

// What the results store answers.
var (
	// ErrNotFound: no record of this task.
	ErrNotFound = errors.New("task not found")
	// ErrLost: the caller does not hold the attempt any more; what it wanted
	// to write was not written.
	ErrLost = errors.New("lease lost")
	// ErrStoreUnavailable: Redis did not answer in time.
	ErrStoreUnavailable = errors.New("result store unavailable")
)

// QueueFullError is an [ErrQueueFull] with what the caller may want to know.
type QueueFullError struct {
	Queue string
	Limit int
	// RetryAfter is when there may be room again.
	RetryAfter time.Duration
}

func (e *QueueFullError) Error() string {
	return fmt.Sprintf("%v: %d messages wait in %q", ErrQueueFull, e.Limit, e.Queue)
}

func (e *QueueFullError) Unwrap() error { return ErrQueueFull }

// MissingError is an [ErrQueueMissing] that names what does not exist: the queue,
// or what leads to it.
type MissingError struct{ Object string }

func (e *MissingError) Error() string { return e.Object + " does not exist" }

func (e *MissingError) Unwrap() error { return ErrQueueMissing }

// InvalidError says which field of a task breaks which rule.
type InvalidError struct {
	Field string
	Rule  string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Rule) }

// DecodeError says why a message cannot be read. ID and Name are filled in as
// far as they could be read, so that the task gets an outcome all the same.
type DecodeError struct {
	ID   string
	Name string
	// Run and Retries are the attempt's, where they could be read.
	Run     int
	Retries int
	Why     string
	Err     error
}

func (e *DecodeError) Error() string {
	if e.Err == nil {
		return "decode message: " + e.Why
	}
	return fmt.Sprintf("decode message: %s: %v", e.Why, e.Err)
}

func (e *DecodeError) Unwrap() error { return e.Err }
