package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// module is where the types of our errors live, for Celery's readers.
	module = "lovage"
	// maxErrorText bounds what an error may say, maxStack what a stack may:
	// both travel in the headers of a dead letter.
	maxErrorText = 8 << 10
	maxStack     = 16 << 10
)

// describe puts an error into the form that results carry.
func describe(err error) *messages.TaskError {
	if p, ok := errors.AsType[*PanicError](err); ok {
		return panicError(p.Reason, p.Stack)
	}
	return &messages.TaskError{Type: typeName(err), Module: module, Message: bounded(err.Error(), maxErrorText)}
}

// typeName is the name of the first type in a chain of errors that says more
// than "error": that of the wrapped one for fmt.Errorf and our own marks.
func typeName(err error) string {
	for err != nil {
		name, _, _ := strings.Cut(element(reflect.TypeOf(err)).Name(), "[")
		switch name {
		case "", "errorString", "wrapError", "wrapErrors", "joinError", "PermanentError", "RetryError":
			err = errors.Unwrap(err)
			continue
		}
		return exported(name)
	}
	return "Error"
}

// exported makes a type's name look like a class. A Python client that reads
// "TimeoutError" takes it for its own: that its wait has ended, not that the
// task has failed.
func exported(name string) string {
	first, size := utf8.DecodeRuneInString(name)
	name = string(unicode.ToUpper(first)) + name[size:]
	if name == "TimeoutError" {
		return "TaskTimeoutError"
	}
	return name
}

func panicError(reason any, stack []byte) *messages.TaskError {
	text := "handler ended its goroutine with runtime.Goexit"
	if reason != nil {
		text = fmt.Sprint(reason)
	}
	return &messages.TaskError{
		Type: "Panic", Module: module, Message: bounded(text, maxErrorText), Traceback: bounded(string(stack), maxStack),
	}
}

// timeLimitError and softTimeLimitError have Celery's own classes, so that its
// clients raise what they know.
func timeLimitError(limit time.Duration) *messages.TaskError {
	return &messages.TaskError{
		Type: "TimeLimitExceeded", Module: "billiard.exceptions",
		Message: fmt.Sprintf("time limit of %v exceeded", limit),
	}
}

func softTimeLimitError(limit time.Duration, said *messages.TaskError) *messages.TaskError {
	return &messages.TaskError{
		Type: "SoftTimeLimitExceeded", Module: "billiard.exceptions",
		Message: bounded(fmt.Sprintf("soft time limit of %v exceeded: %s", limit, said.Message), maxErrorText),
	}
}

// bounded cuts a text to so many bytes of valid UTF-8.
func bounded(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	const mark = "…"
	cut := limit - len(mark)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}

func jsonStrings(values ...string) json.RawMessage {
	raw, _ := json.Marshal(values) // strings always encode
	return raw
}
