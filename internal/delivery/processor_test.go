package delivery_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a processor over a real Redis, with a broker that writes down what
// happens.
type bench struct {
	t         *testing.T
	server    *devstack.RedisInstance
	client    redis.UniversalClient
	store     *results.Store
	broker    *broker
	processor *delivery.Processor
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server := devstack.RedisServer(t)
	client, err := results.Open(server.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	b := &bench{t: t, server: server, client: client, broker: &broker{}}
	b.store = results.New(results.Options{Client: client, Lease: time.Second, Log: zaptest.NewLogger(t)})
	b.broker.state = func(id string) messages.State {
		r, err := b.store.Get(context.WithoutCancel(t.Context()), id)
		if err != nil {
			return ""
		}
		return r.State
	}
	b.processor = b.another("w1")
	return b
}

// another returns the processor of another worker.
func (b *bench) another(name string) *delivery.Processor {
	b.t.Helper()
	p := delivery.New(delivery.Options{
		Store: b.store, Publisher: b.broker, Worker: name, Lease: time.Second, Log: zaptest.NewLogger(b.t),
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	return p
}

func (b *bench) process(t *messages.Task, o delivery.Outcome) {
	b.t.Helper()
	b.processor.Process(b.t.Context(), b.t.Context(), b.delivery(t), returns(o))
}

func (b *bench) delivery(t *messages.Task) delivery.Delivery {
	b.t.Helper()
	m, err := messages.Encode(t)
	require.NoError(b.t, err)
	return delivery.Delivery{Message: m, Queue: "q", Acker: b.broker.acker(t.ID)}
}

func (b *bench) record(id string) *messages.Result {
	b.t.Helper()
	r, err := b.store.Get(b.t.Context(), id)
	require.NoError(b.t, err)
	return r
}

func returns(o delivery.Outcome) delivery.Handler {
	return func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome { return o }
}

// never is the handler of a task that must not run.
func (b *bench) never() delivery.Handler {
	return func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
		b.t.Error("the handler ran")
		return delivery.Outcome{}
	}
}

func newTask() *messages.Task {
	return &messages.Task{ID: messages.NewID(), Name: "t", Queue: "q"}
}

// broker writes down what is published and settled, in order, each with the
// state of the task at that moment.
type broker struct {
	mu     sync.Mutex
	events []event
	err    error
	state  func(id string) messages.State
}

type event struct {
	what  string // retry-or-copy, dead, ack, requeue
	state messages.State
	delay time.Duration
	task  *messages.Task
	dead  messages.DeadLetter
}

func (b *broker) add(id string, e event) {
	e.state = b.state(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

func (b *broker) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *broker) broken() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *broker) all() []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

func (b *broker) take() []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

func (b *broker) Enqueue(_ context.Context, queue string, delay time.Duration, m *messages.Message) error {
	if err := b.broken(); err != nil {
		return err
	}
	t, err := messages.Decode(m)
	if err != nil {
		return err
	}
	if queue != "q" {
		return errors.New("wrong queue " + queue)
	}
	b.add(t.ID, event{what: "enqueue", delay: delay, task: t})
	return nil
}

func (b *broker) DeadLetter(_ context.Context, queue string, m *messages.Message) error {
	if err := b.broken(); err != nil {
		return err
	}
	d, _ := messages.DecodeDeadLetter(m)
	t, _ := messages.Decode(m)
	if queue != "q" {
		return errors.New("wrong queue " + queue)
	}
	b.add(m.MessageID, event{what: "dead", task: t, dead: d})
	return nil
}

func (b *broker) acker(id string) acker { return acker{b, id} }

type acker struct {
	b  *broker
	id string
}

func (a acker) Ack() error            { a.b.add(a.id, event{what: "ack"}); return nil }
func (a acker) Gone() <-chan struct{} { return nil }

func (a acker) Requeue() error { a.b.add(a.id, event{what: "requeue"}); return nil }

func whats(events []event) []string {
	names := []string{}
	for _, e := range events {
		names = append(names, e.what)
	}
	return names
}

func TestOutcomeIsStoredBeforeTheAck(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	var during *messages.Result
	b.processor.Process(t.Context(), t.Context(), b.delivery(task),
		func(ctx context.Context, _ *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
			require.NoError(t, progress(ctx, messages.ProgressInfo{Current: 1, Total: 2, Percent: 50}))
			during = b.record(task.ID)
			return delivery.Outcome{State: messages.Success, Value: []byte(`[1]`)}
		})
	require.Equal(t, messages.Progress, during.State)
	require.InDelta(t, 50, during.Progress.Percent, 0)
	events := b.broker.take()
	require.Equal(t, []string{"ack"}, whats(events))
	require.Equal(t, messages.Success, events[0].state)
	r := b.record(task.ID)
	require.Equal(t, "w1", r.Worker)
	require.JSONEq(t, `[1]`, string(r.Value))
}

func TestLargeResultIsStoredCompressedWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	value := []byte(`"` + strings.Repeat("large ", 1000) + `"`)
	for above, packed := range map[int]bool{0: false, len(value): false, len(value) - 1: true} {
		task := newTask()
		b.process(task, delivery.Outcome{State: messages.Success, Value: value, PackAbove: above})
		require.JSONEq(t, string(value), string(b.record(task.ID).Value), "whoever reads it does not notice")
		stored, err := b.client.Get(t.Context(), messages.ResultKey(task.ID)).Result()
		require.NoError(t, err)
		require.Equal(t, packed, len(stored) < len(value)/2)
	}
}

func TestRetryIsConfirmedBeforeTheAck(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	b.process(task, delivery.Outcome{State: messages.Retry, RetryIn: time.Minute, Err: &messages.TaskError{Type: "Error", Message: "no"}})
	events := b.broker.take()
	require.Equal(t, []string{"enqueue", "ack"}, whats(events))
	require.Equal(t, messages.Retry, events[0].state, "stored before it is published")
	require.InDelta(t, time.Minute, events[0].delay, float64(5*time.Second))
	require.Equal(t, task.ID, events[0].task.ID)
	require.Equal(t, 1, events[0].task.Retries)
	require.WithinDuration(t, b.record(task.ID).NextAttempt, events[0].task.ETA, time.Millisecond)

	// The second attempt is another matter for the task record.
	again := events[0].task
	again.ETA = time.Time{}
	b.process(again, delivery.Outcome{State: messages.Success})
	require.Equal(t, 1, b.record(task.ID).Retries)
}

func TestDeadLetterSaysWhy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	b.process(task, delivery.Outcome{
		State: messages.Failure, Reason: messages.ReasonRetriesExhausted,
		Err: &messages.TaskError{Type: "Error", Message: "no", Traceback: "stack"},
	})
	events := b.broker.take()
	require.Equal(t, []string{"dead", "ack"}, whats(events))
	d := events[0].dead
	require.Equal(t, messages.ReasonRetriesExhausted, d.Reason)
	require.Equal(t, "Error: no", d.Error)
	require.Equal(t, "stack", d.Stack)
	require.Equal(t, "w1", d.Worker)
	require.Equal(t, 1, d.Attempts)
	require.Equal(t, messages.Failure, b.record(task.ID).State)
}

// A process that dies after it stored an outcome and before its successor is
// confirmed leaves a delivery that says what is still to be done.
func TestRedeliveryPublishesTheSuccessorThatIsMissing(t *testing.T) {
	t.Parallel()
	for what, o := range map[string]delivery.Outcome{
		"enqueue": {State: messages.Retry, RetryIn: time.Minute, Err: &messages.TaskError{Type: "Error", Message: "no"}},
		"dead":    {State: messages.Failure, Reason: messages.ReasonPermanent, Err: &messages.TaskError{Type: "Error", Message: "no"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			task := newTask()
			b.broker.fail(messages.ErrBrokerUnavailable)
			dying, die := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				b.processor.Process(dying, t.Context(), b.delivery(task), returns(o))
			}()
			require.Eventually(t, func() bool { return b.broker.state(task.ID) == o.State }, patience, time.Millisecond)
			die()
			<-done
			require.Empty(t, b.broker.take(), "not acked")

			b.broker.fail(nil)
			b.processor.Process(t.Context(), t.Context(), b.delivery(task), b.never())
			events := b.broker.take()
			require.Equal(t, []string{what, "ack"}, whats(events))
			if what == "enqueue" {
				require.WithinDuration(t, b.record(task.ID).NextAttempt, events[0].task.ETA, time.Millisecond)
			} else {
				require.Equal(t, messages.ReasonPermanent, events[0].dead.Reason)
				require.Equal(t, "Error: no", events[0].dead.Error)
			}
			// Once more, and nothing is left to do.
			b.processor.Process(t.Context(), t.Context(), b.delivery(task), b.never())
			require.Equal(t, []string{"ack"}, whats(b.broker.take()))
		})
	}
}

func TestCopyOfARunningTaskWaitsForItsLease(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	b.processor.Process(t.Context(), t.Context(), b.delivery(task),
		func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
			b.another("w2").Process(t.Context(), t.Context(), b.delivery(task), b.never())
			events := b.broker.take()
			require.Equal(t, []string{"enqueue", "ack"}, whats(events))
			require.Positive(t, events[0].delay)
			require.LessOrEqual(t, events[0].delay, time.Second)
			require.Equal(t, task.Attempt(), events[0].task.Attempt())
			return delivery.Outcome{State: messages.Success}
		})
	require.Equal(t, messages.Success, b.record(task.ID).State)
}

// A worker that was frozen beyond its lease finds that another has the task.
func TestOutcomeOfALostLeaseIsDropped(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	frozen := delivery.New(delivery.Options{ // its leases are not renewed
		Store: b.store, Publisher: b.broker, Worker: "frozen", Lease: time.Second, Log: zaptest.NewLogger(t),
	})
	frozen.Process(t.Context(), t.Context(), b.delivery(task),
		func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
			require.Eventually(t, func() bool {
				b.process(task, delivery.Outcome{State: messages.Success, Value: []byte(`"second"`)})
				r, err := b.store.Get(t.Context(), task.ID)
				return err == nil && r.State == messages.Success
			}, patience, 50*time.Millisecond)
			b.broker.take()
			return delivery.Outcome{State: messages.Success, Value: []byte(`"first"`)}
		})
	require.JSONEq(t, `"second"`, string(b.record(task.ID).Value))
	require.Equal(t, []string{"ack"}, whats(b.broker.take()))
}

func TestLeaseIsRenewedWhileTheTaskRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	b.processor.Process(t.Context(), t.Context(), b.delivery(task),
		func(ctx context.Context, _ *messages.Task, _ delivery.ProgressFunc) delivery.Outcome {
			<-time.After(2500 * time.Millisecond) // more than two leases
			require.NoError(t, ctx.Err())
			b.another("w2").Process(t.Context(), t.Context(), b.delivery(task), b.never())
			return delivery.Outcome{State: messages.Success}
		})
	require.Equal(t, messages.Success, b.record(task.ID).State)
}

func TestInterruptedTaskGoesBackWithItsCount(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	b.process(task, delivery.Outcome{})
	require.Equal(t, []string{"requeue"}, whats(b.broker.take()))
	// At once, without waiting for a lease to run out, and not as a suspect.
	b.process(task, delivery.Outcome{State: messages.Success})
	require.Equal(t, []string{"ack"}, whats(b.broker.take()))
	require.Equal(t, 0, b.record(task.ID).Retries)
}

func TestExpiredTaskIsRevokedAndNoDeadLetter(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	task.Expires = time.Now().Add(-time.Second)
	b.processor.Process(t.Context(), t.Context(), b.delivery(task), b.never())
	require.Equal(t, []string{"ack"}, whats(b.broker.take()))
	r := b.record(task.ID)
	require.Equal(t, messages.Revoked, r.State)
	require.Equal(t, "expired", r.Error.Message)
}

func TestEarlyTaskIsDelayedAgainAndNeverHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	task.ETA = time.Now().Add(time.Hour)
	b.processor.Process(t.Context(), t.Context(), b.delivery(task), b.never())
	events := b.broker.take()
	require.Equal(t, []string{"enqueue", "ack"}, whats(events))
	require.InDelta(t, time.Hour, events[0].delay, float64(10*time.Second))
}

func TestUndecodableMessageIsADeadLetterWithAnOutcome(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, m := range map[string]*messages.Message{
		"with an id":    {MessageID: "bad-1", ContentType: "application/json", Headers: map[string]any{"id": "bad-1", "task": "t"}, Body: []byte(`{`)},
		"without an id": {MessageID: "bad-2", ContentType: "application/json", Headers: map[string]any{"task": "t"}, Body: []byte(`[[],{},null]`)},
	} {
		b.processor.Process(t.Context(), t.Context(), delivery.Delivery{Message: m, Queue: "q", Acker: b.broker.acker(m.MessageID)}, b.never())
		events := b.broker.take()
		require.Equal(t, []string{"dead", "ack"}, whats(events), name)
		require.Equal(t, messages.ReasonUndecodable, events[0].dead.Reason, name)
		require.NotEmpty(t, events[0].dead.Error, name)
	}
	r := b.record("bad-1")
	require.Equal(t, messages.Failure, r.State)
	require.Equal(t, messages.ReasonUndecodable, r.Reason)
}

func TestWorkflowMessageIsNotRunWithItsSuccessorsDropped(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	task.Embed = []byte(`{"callbacks":null,"errbacks":null,"chain":[{"task":"x"}],"chord":null}`)
	b.processor.Process(t.Context(), t.Context(), b.delivery(task), b.never())
	require.Equal(t, []string{"dead", "ack"}, whats(b.broker.take()))
	require.Equal(t, "NotSupported", b.record(task.ID).Error.Type)
}

// A task whose worker dies each time is started three times, the third time
// alone, and then convicted. Its neighbours go on.
func TestPoisonIsConvictedByItsStarts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	poison := newTask()
	revive := make(chan struct{}) // what is dead wakes up at the end
	var dead sync.WaitGroup
	defer dead.Wait()
	defer close(revive)
	// alone starts the poison beside a neighbour, on a worker that then dies,
	// and reports whether it had to wait until the neighbour was done.
	alone := func(p *delivery.Processor) bool {
		started, wait, ran := make(chan struct{}), make(chan struct{}), make(chan struct{})
		var neighbour sync.WaitGroup
		defer neighbour.Wait()
		neighbour.Go(func() {
			p.Process(t.Context(), t.Context(), b.delivery(newTask()),
				func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
					close(started)
					<-wait
					return delivery.Outcome{State: messages.Success}
				})
		})
		<-started
		dead.Go(func() {
			p.Process(t.Context(), t.Context(), b.delivery(poison),
				func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
					b.abandon(poison)
					close(ran)
					<-revive
					return delivery.Outcome{State: messages.Success}
				})
		})
		select {
		case <-ran:
			close(wait)
			return false
		case <-time.After(300 * time.Millisecond):
			close(wait)
			<-ran
			return true
		}
	}
	require.False(t, alone(b.another("w2")), "first start")
	require.False(t, alone(b.another("w3")), "second start")
	require.True(t, alone(b.another("w4")), "third start")
	b.broker.take()
	b.processor.Process(t.Context(), t.Context(), b.delivery(poison), b.never())
	events := b.broker.take()
	require.Equal(t, []string{"dead", "ack"}, whats(events))
	require.Equal(t, messages.ReasonDeliveryLimit, events[0].dead.Reason)
	require.Equal(t, messages.Failure, b.record(poison.ID).State)
}

// abandon lets the lease of a task run out and takes it from its owner, as if
// the owner had died: what it does afterwards does not count.
func (b *bench) abandon(t *messages.Task) {
	b.t.Helper()
	record, err := os.ReadFile("../../pkg/results/lua/task.lua")
	require.NoError(b.t, err)
	key := "lovage:t:{" + messages.ResultKey(t.ID) + "}"
	err = b.client.Eval(b.t.Context(), string(record)+"unfold(KEYS[1]) return redis.call('HDEL', KEYS[1], 'owner', 'lease')", []string{key}).Err()
	require.NoError(b.t, err)
}

func TestClerkGivesAnOutcomeToWhatTheBrokerRejected(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	limit, expired, foreign := newTask(), newTask(), newTask()
	expired.Expires = time.Now().Add(-time.Second)
	for _, tc := range []struct {
		task   *messages.Task
		death  string
		state  messages.State
		reason messages.Reason
		events []string
	}{
		{limit, "delivery_limit", messages.Failure, messages.ReasonDeliveryLimit, []string{"dead", "ack"}},
		{foreign, "maxlen", messages.Failure, messages.ReasonBroker, []string{"dead", "ack"}},
		{expired, "expired", messages.Revoked, "", []string{"ack"}},
		{limit, "delivery_limit", messages.Failure, messages.ReasonDeliveryLimit, []string{"ack"}}, // again
	} {
		d := b.delivery(tc.task)
		d.DeadReason = tc.death
		b.processor.Reject(t.Context(), d)
		require.Equal(t, tc.events, whats(b.broker.take()), tc.death)
		r := b.record(tc.task.ID)
		require.Equal(t, tc.state, r.State, tc.death)
		require.Equal(t, tc.reason, r.Reason, tc.death)
	}
}

func TestRedisAwayHoldsTheDeliveryAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	running, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		b.processor.Process(t.Context(), t.Context(), b.delivery(task),
			func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
				if err := b.server.Kill(); err != nil {
					t.Error(err)
				}
				close(running)
				return delivery.Outcome{State: messages.Success}
			})
	}()
	<-running
	second := make(chan struct{})
	go func() {
		defer close(second)
		b.process(newTask(), delivery.Outcome{State: messages.Success})
	}()
	select {
	case <-done:
		require.Fail(t, "settled without a store")
	case <-second:
		require.Fail(t, "ran without a claim")
	case <-time.After(500 * time.Millisecond):
	}
	require.Empty(t, b.broker.all())
	require.NoError(t, b.server.Start(t.Context()))
	<-done
	<-second
	require.Equal(t, []string{"ack", "ack"}, whats(b.broker.take()))
	require.Equal(t, messages.Success, b.record(task.ID).State)
}

func TestStoppingWorkerGivesBackWhatItCouldNotClaim(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	require.NoError(t, b.server.Kill())
	work, stop := context.WithCancel(t.Context())
	stop()
	b.processor.Process(t.Context(), work, b.delivery(newTask()), b.never())
	require.Equal(t, []string{"requeue"}, whats(b.broker.all()))
}

// A suspect waits a moment to be alone, and then lets the others go on.
func TestASuspectGivesWayToALongNeighbour(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	suspect := newTask()
	key := "lovage:t:{" + messages.ResultKey(suspect.ID) + "}"
	require.NoError(t, b.client.HSet(t.Context(), key, "run", 0, "attempt", 0, "starts", 2).Err())
	b.processor.Process(t.Context(), t.Context(), b.delivery(newTask()),
		func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
			b.processor.Process(t.Context(), t.Context(), b.delivery(suspect), b.never())
			events := b.broker.take()
			require.Equal(t, []string{"enqueue", "ack"}, whats(events))
			require.Greater(t, events[0].delay, 5*time.Second)
			b.process(newTask(), delivery.Outcome{State: messages.Success})
			return delivery.Outcome{State: messages.Success}
		})
	// Waiting was no start: it is still the third, and now it is alone.
	b.process(suspect, delivery.Outcome{State: messages.Success})
	require.Equal(t, messages.Success, b.record(suspect.ID).State)
}
