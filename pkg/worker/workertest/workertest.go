// Package workertest runs tasks in the tests of those who write them, without
// RabbitMQ and Redis: through the same decoding, claim, rules and settlement as
// in a worker, with a Redis in memory and a broker that never waits.
package workertest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/pkg/worker"
)

// Run is what became of a task.
type Run struct {
	// State is SUCCESS, FAILURE or REVOKED, Value the result of a SUCCESS in
	// JSON, Error what a FAILURE or REVOKED says.
	State messages.State
	Value json.RawMessage
	Error *messages.TaskError
	// Reason is why the task became a dead letter; empty when it did not.
	Reason messages.Reason
	// Attempts are the attempts in their order, one at least unless the task
	// did not come to run.
	Attempts []Attempt

	tb testing.TB
}

// Attempt is one attempt of a task.
type Attempt struct {
	// State is SUCCESS, RETRY, FAILURE or REVOKED, Error what was wrong.
	State messages.State
	Error *messages.TaskError
	// RetryIn is how long a RETRY waits. Here nobody waits for it.
	RetryIn time.Duration
	// Progress is what the handler reported.
	Progress []messages.ProgressInfo
}

// Decode reads the result into v, and ends the test when there is none or when
// it does not fit.
func (r *Run) Decode(v any) {
	r.tb.Helper()
	if r.State != messages.Success {
		r.tb.Fatalf("the task has no result, it is in state %s: %+v", r.State, r.Error)
	}
	if err := json.Unmarshal(r.Value, v); err != nil {
		r.tb.Fatalf("decode the result: %v", err)
	}
}

// Do runs a task of w to its end, with all its retries, and returns what became
// of it. The input is anything whose JSON is the input of the task. Change, when
// given, sees the task before it is sent, to set a limit or an id. The end of
// the test's context interrupts the task. Do blocks as long as the handler does.
func Do(tb testing.TB, w *worker.Worker, name string, input any, change ...func(*messages.Task)) *Run {
	tb.Helper()
	kwargs, err := json.Marshal(input)
	if err != nil {
		tb.Fatalf("encode the input: %v", err)
	}
	t := &messages.Task{ID: messages.NewID(), Name: name, Kwargs: kwargs, Queue: "workertest", Created: time.Now()}
	for _, c := range change {
		c(t)
	}
	m, err := messages.Encode(t)
	if err != nil {
		tb.Fatalf("encode the task: %v", err)
	}
	return newStage(tb, w).play(t.ID, m)
}

// stage is what a task runs on.
type stage struct {
	tb        testing.TB
	worker    *worker.Worker
	store     *results.Store
	processor *delivery.Processor
	run       *Run
	// next is what was published last, to be delivered.
	next *messages.Message
}

func newStage(tb testing.TB, w *worker.Worker) *stage {
	tb.Helper()
	client, err := results.Open("redis://" + miniredis.RunT(tb).Addr())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	s := &stage{tb: tb, worker: w, store: results.New(results.Options{Client: client}), run: &Run{tb: tb}}
	s.processor = delivery.New(delivery.Options{
		Store: s.store, Publisher: s, Worker: "workertest", Lease: time.Hour, Log: zap.NewNop(),
	})
	return s
}

func (s *stage) play(id string, m *messages.Message) *Run {
	ctx := s.tb.Context()
	for s.next = m; s.next != nil; {
		d := delivery.Delivery{Message: s.next, Queue: "workertest", Acker: acker{}}
		s.next = nil
		s.processor.Process(ctx, ctx, d, s.attempt)
		if ctx.Err() != nil {
			s.tb.Fatal("the test has ended before the task")
		}
	}
	r, err := s.store.Get(ctx, id)
	if err != nil {
		s.tb.Fatalf("the outcome of the task: %v", err)
	}
	s.run.State, s.run.Value, s.run.Error = r.State, r.Value, r.Error
	return s.run
}

// attempt is one attempt of the handler, with what it reports kept.
func (s *stage) attempt(ctx context.Context, t *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
	var a Attempt
	o := s.worker.RunAttempt(ctx, t, func(ctx context.Context, info messages.ProgressInfo) error {
		a.Progress = append(a.Progress, info)
		return progress(ctx, info)
	})
	a.State, a.Error, a.RetryIn = o.State, o.Err, o.RetryIn
	s.run.Attempts = append(s.run.Attempts, a)
	return o
}

// Enqueue delivers a retry at once: what is asked of a test is not to wait.
func (s *stage) Enqueue(_ context.Context, _ string, _ time.Duration, m *messages.Message) error {
	t, err := messages.Decode(m)
	if err != nil {
		return err
	}
	t.ETA = time.Time{}
	s.next, err = messages.Encode(t)
	return err
}

// DeadLetter keeps the reason.
func (s *stage) DeadLetter(_ context.Context, _ string, m *messages.Message) error {
	letter, _ := messages.DecodeDeadLetter(m)
	s.run.Reason = letter.Reason
	return nil
}

// acker is a broker that takes every answer.
type acker struct{}

func (acker) Ack() error            { return nil }
func (acker) Requeue() error        { return nil }
func (acker) Gone() <-chan struct{} { return nil }
