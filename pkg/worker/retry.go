package worker

import (
	"errors"
	"slices"
)

// ErrorKind is a kind of errors: those that are a certain error, or of a type.
// Make one with [Is] or [As].
type ErrorKind struct{ holds func(error) bool }

// Is is the kind of all errors for which errors.Is(err, target) is true. An
// attempt that its soft time limit has ended mostly returns an error that is
// [context.DeadlineExceeded].
func Is(target error) ErrorKind {
	return ErrorKind{func(err error) bool { return errors.Is(err, target) }}
}

// As is the kind of all errors of a type, or that wrap one. A panic is of type
// [*PanicError].
func As[E error]() ErrorKind {
	return ErrorKind{func(err error) bool {
		_, ok := errors.AsType[E](err)
		return ok
	}}
}

// WithRetryOn retries errors of these kinds only. Any other makes the task fail
// at once, as one of [Permanent] does. What is [RetryAfter] is retried all the
// same.
func WithRetryOn(kinds ...ErrorKind) HandleOption {
	return func(h *handler) error {
		h.retryOn = append(h.retryOn, kinds...)
		return checkKinds("WithRetryOn", kinds)
	}
}

// WithGiveUpOn makes the task fail at once for errors of these kinds, also where
// [WithRetryOn] names them. What is [RetryAfter] is retried all the same.
func WithGiveUpOn(kinds ...ErrorKind) HandleOption {
	return func(h *handler) error {
		h.giveUpOn = append(h.giveUpOn, kinds...)
		return checkKinds("WithGiveUpOn", kinds)
	}
}

func checkKinds(option string, kinds []ErrorKind) error {
	empty := slices.ContainsFunc(kinds, func(k ErrorKind) bool { return k.holds == nil })
	return check(len(kinds) > 0 && !empty, option+" needs kinds of errors, made with Is or As")
}

// hopeless reports whether no retry can mend an error.
func (h *handler) hopeless(err error) bool {
	holds := func(k ErrorKind) bool { return k.holds(err) }
	if _, ok := errors.AsType[*PermanentError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*RetryError](err); ok {
		return false
	}
	return slices.ContainsFunc(h.giveUpOn, holds) || len(h.retryOn) > 0 && !slices.ContainsFunc(h.retryOn, holds)
}
