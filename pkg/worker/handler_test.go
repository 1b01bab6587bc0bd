package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
)

type addIn struct {
	X int `json:"x" jsonschema:"minimum=0"`
	Y int `json:"y" jsonschema:"default=1"`
}

// workerOf returns a worker with one task, "t", that does fn.
func workerOf[In, Out any](fn func(context.Context, In) (Out, error), opts ...HandleOption) *Worker {
	w := New(Options{})
	Handle(w, "t", fn, opts...)
	return w
}

// failing returns a worker whose task ends with what err returns.
func failing(err func() error, opts ...HandleOption) *Worker {
	return workerOf(func(context.Context, struct{}) (any, error) { return nil, err() }, opts...)
}

func fails(err error) func() error { return func() error { return err } }

type customError struct{ code int }

func (e *customError) Error() string { return fmt.Sprintf("code %d", e.code) }

type timeoutError struct{}

func (timeoutError) Error() string { return "timed out" }

type nilError struct{ text *string }

func (e *nilError) Error() string { return *e.text }

type unencodable struct{ F float64 }

// nothing hides a nil from those who check programs.
func nothing() any { return nil }

// broken dereferences what it gets.
func broken(e *customError) int { return e.code }

type panicky struct{}

func (*panicky) UnmarshalJSON([]byte) error { panic("decoder") }

func TestOutcomes(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	err := func(kind, text string) *messages.TaskError {
		return &messages.TaskError{Type: kind, Module: "lovage", Message: text}
	}
	none, one, five := 0, 1, 5
	long := strings.Repeat("ü", 10_000)
	tests := map[string]struct {
		worker *Worker
		task   messages.Task
		want   delivery.Outcome
	}{
		"result": {
			worker: workerOf(func(_ context.Context, in addIn) (map[string]int, error) {
				return map[string]int{"sum": in.X + in.Y}, nil
			}),
			task: messages.Task{Args: json.RawMessage(`[2]`)},
			want: delivery.Outcome{State: messages.Success, Value: json.RawMessage(`{"sum":3}`)},
		},
		"null result": {
			worker: failing(fails(nil)),
			want:   delivery.Outcome{State: messages.Success, Value: json.RawMessage(`null`)},
		},
		"result that is no JSON": {
			worker: workerOf(func(context.Context, struct{}) (unencodable, error) { return unencodable{math.NaN()}, nil }),
			want: delivery.Outcome{
				State: messages.Failure, Reason: messages.ReasonPermanent,
				Err: err("UnsupportedValueError", "encode result: json: unsupported value: NaN"),
			},
		},
		"result that is no UTF-8": {
			worker: workerOf(func(context.Context, struct{}) (json.RawMessage, error) { return json.RawMessage("\"\xff\""), nil }),
			want: delivery.Outcome{
				State: messages.Failure, Reason: messages.ReasonPermanent, Err: err("Error", "encode result: it is not UTF-8"),
			},
		},
		"invalid input": {
			worker: workerOf(func(context.Context, addIn) (any, error) { panic("must not run") }),
			task:   messages.Task{Args: json.RawMessage(`[-1, "a"]`)},
			want: delivery.Outcome{
				State: messages.Failure, Reason: messages.ReasonInvalidInput,
				Err: err("InvalidInputError", "invalid input: /x: must be at least 0; /y: must be of type integer, is string"),
			},
		},
		"invalid input has no retries": {
			worker: workerOf(func(context.Context, addIn) (any, error) { panic("must not run") }),
			task:   messages.Task{MaxRetries: &five},
			want: delivery.Outcome{
				State: messages.Failure, Reason: messages.ReasonInvalidInput,
				Err: err("InvalidInputError", "invalid input: /x: is required"),
			},
		},
		"unknown task": {
			worker: New(Options{}),
			want: delivery.Outcome{State: messages.Failure, Reason: messages.ReasonUnknownTask, Err: &messages.TaskError{
				Type: "NotRegistered", Module: "celery.exceptions", Message: `no task "t" is registered with this worker`, Args: json.RawMessage(`["t"]`),
			}},
		},
		"permanent error": {
			worker: failing(fails(Permanent(&customError{4}))),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonPermanent, Err: err("CustomError", "code 4")},
		},
		"wrapped permanent error": {
			worker: failing(fails(fmt.Errorf("save: %w", Permanent(boom)))),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonPermanent, Err: err("Error", "save: boom")},
		},
		"permanent wins over retry": {
			worker: failing(fails(RetryAfter(time.Second, Permanent(boom)))),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonPermanent, Err: err("Error", "boom")},
		},
		"retry at a time": {
			worker: failing(fails(fmt.Errorf("busy: %w", RetryAfter(90*time.Second, boom)))),
			want:   delivery.Outcome{State: messages.Retry, RetryIn: 90 * time.Second, Err: err("Error", "busy: boom")},
		},
		"retry at once": {
			worker: failing(fails(RetryAfter(-time.Second, nil))),
			want:   delivery.Outcome{State: messages.Retry, Err: err("Error", "retry requested")},
		},
		"retry beyond what the broker can delay": {
			worker: failing(fails(RetryAfter(math.MaxInt64, boom))),
			want:   delivery.Outcome{State: messages.Retry, RetryIn: (1<<28 - 1) * time.Second, Err: err("Error", "boom")},
		},
		"retry at a time after the last": {
			worker: failing(fails(RetryAfter(time.Second, boom))),
			task:   messages.Task{Retries: 3},
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("Error", "boom")},
		},
		"last retry": {
			worker: failing(fails(boom), WithMaxRetries(1), WithBackoff(Backoff{Base: 1, Max: 1})),
			want:   delivery.Outcome{State: messages.Retry, Err: err("Error", "boom")},
		},
		"after the last retry": {
			worker: failing(fails(boom), WithMaxRetries(1)),
			task:   messages.Task{Retries: 1},
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("Error", "boom")},
		},
		"no retries": {
			worker: failing(fails(boom), WithMaxRetries(0)),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("Error", "boom")},
		},
		"message allows fewer retries": {
			worker: failing(fails(boom)),
			task:   messages.Task{MaxRetries: &none},
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("Error", "boom")},
		},
		"message allows more retries": {
			worker: failing(fails(boom), WithMaxRetries(0), WithBackoff(Backoff{Base: 1, Max: 1})),
			task:   messages.Task{MaxRetries: &one},
			want:   delivery.Outcome{State: messages.Retry, Err: err("Error", "boom")},
		},
		"type of a wrapped error": {
			worker: failing(fails(fmt.Errorf("a: %w", fmt.Errorf("b: %w", &fs.PathError{Op: "open", Path: "x", Err: boom}))), WithMaxRetries(0)),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("PathError", "a: b: open x: boom")},
		},
		"type of joined errors": {
			worker: failing(fails(errors.Join(boom, net.ErrClosed)), WithMaxRetries(0)),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("Error", "boom\nuse of closed network connection")},
		},
		"type that Python would take for its own": {
			worker: failing(fails(timeoutError{}), WithMaxRetries(0)),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("TaskTimeoutError", "timed out")},
		},
		"text of a long error": {
			worker: failing(fails(errors.New(long)), WithMaxRetries(0)),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("Error", long[:8188]+"…")},
		},
		"text that is no UTF-8": {
			worker: failing(fails(errors.New("a\xffb")), WithMaxRetries(0)),
			want:   delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: err("Error", "a\uFFFDb")},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.task.Name = "t"
			require.Equal(t, tt.want, tt.worker.handle(t.Context(), &tt.task, nil))
		})
	}
}

func TestResultsAreBounded(t *testing.T) {
	t.Parallel()
	require.NoError(t, checkResult([]byte(`"12"`), 4))
	err := checkResult([]byte(`"123"`), 4)
	require.EqualError(t, err, "the result has 5 bytes, the limit is 4 (MaxResult of the worker's options, LOVAGE_MAX_RESULT): "+
		"store it elsewhere and return where it is")
	var permanent *PermanentError
	require.ErrorAs(t, err, &permanent)
}

func TestRetryWaitsForTheBackoff(t *testing.T) {
	t.Parallel()
	w := failing(fails(errors.New("boom")), WithMaxRetries(10), WithBackoff(Backoff{Base: time.Hour, Max: 4 * time.Hour}))
	longest := time.Duration(0)
	for range 200 {
		o := w.handle(t.Context(), &messages.Task{Name: "t", Retries: 1}, nil)
		require.Equal(t, messages.Retry, o.State)
		require.Less(t, o.RetryIn, 2*time.Hour)
		longest = max(longest, o.RetryIn)
	}
	require.Greater(t, longest, time.Hour, "the bound has doubled")
}

func TestPanicIsAnErrorWithAStack(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		worker *Worker
		text   string
		in     string
	}{
		"in the handler":        {failing(func() error { panic("ouch") }), "ouch", "handler_test.go"},
		"with an error":         {failing(func() error { panic(&customError{7}) }), "code 7", "handler_test.go"},
		"with nil":              {failing(func() error { panic(nothing()) }), "panic called with nil argument", "handler_test.go"},
		"nil dereference":       {failing(func() error { return fmt.Errorf("%d", broken(nil)) }), "nil pointer dereference", "handler_test.go"},
		"in the error's text":   {failing(fails((&nilError{}))), "nil pointer dereference", "describe"},
		"in the input's reader": {workerOf(func(context.Context, struct{ P panicky }) (any, error) { return nil, nil }), "decoder", "UnmarshalJSON"},
		"end of the goroutine":  {failing(func() error { runtime.Goexit(); return nil }), "runtime.Goexit", "handler_test.go"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := &messages.Task{Name: "t", Kwargs: json.RawMessage(`{}`)}
			if strings.Contains(name, "reader") {
				task.Kwargs = json.RawMessage(`{"P": 1}`)
			}
			o := tt.worker.handle(t.Context(), task, nil)

			require.Equal(t, messages.Retry, o.State)
			require.Equal(t, "Panic", o.Err.Type)
			require.Contains(t, o.Err.Message, tt.text)
			if tt.text != "runtime.Goexit" { // its deferred functions run at the top
				require.Contains(t, o.Err.Traceback, tt.in)
			}
			require.LessOrEqual(t, len(o.Err.Traceback), maxStack)

			task.Retries = 3
			o = tt.worker.handle(t.Context(), task, nil)
			require.Equal(t, messages.Failure, o.State)
			require.Equal(t, messages.ReasonRetriesExhausted, o.Reason)
		})
	}
}
