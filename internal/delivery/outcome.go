package delivery

import (
	"encoding/json"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Outcome says how one attempt of a task ended.
type Outcome struct {
	// State is Success, Failure, Retry or Revoked. Empty means interrupted:
	// the task goes back to the queue and keeps its count.
	State messages.State
	// Value is the result of a Success, as JSON.
	Value json.RawMessage
	// Err says why a Failure, Retry or Revoked came about.
	Err *messages.TaskError
	// Reason is set for a Failure that becomes a dead letter.
	Reason messages.Reason
	// RetryIn is the delay of a Retry.
	RetryIn time.Duration
	// Retention is how long the outcome is kept, unless the message says
	// otherwise; the store's TTL when zero.
	Retention time.Duration
	// PackAbove is the size of a Value in bytes above which it is stored
	// compressed; never when zero.
	PackAbove int
}

// next is the successor that the outcome asks for.
func (o Outcome) next() messages.Next {
	switch {
	case o.State == messages.Retry:
		return messages.NextRetry
	case o.State == messages.Failure && o.Reason != "":
		return messages.NextDead
	}
	return messages.NextNone
}

func failure(reason messages.Reason, kind, text string) Outcome {
	return Outcome{
		State:  messages.Failure,
		Reason: reason,
		Err:    &messages.TaskError{Type: kind, Module: "lovage", Message: text},
	}
}

func revoked(why string) Outcome {
	return Outcome{State: messages.Revoked, Err: messages.RevokedError(why)}
}
