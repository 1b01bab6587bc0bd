package rabbitmq_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

func TestEnqueueIsDurableAndConfirmed(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "a"))

	d := get(t, raw(t, url), "q")
	require.Equal(t, amqp.Persistent, d.DeliveryMode)
	require.Equal(t, "a", d.MessageId)
	require.Equal(t, "application/json", d.ContentType)
	require.Empty(t, d.Exchange)
	require.Equal(t, amqp.Table{"a": []any{"b"}}, d.Headers["stamps"])
	require.JSONEq(t, `[[],{},null]`, string(d.Body))
}

func TestMissingQueueIsAnErrorUnlessItIsOurs(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url), Foreign: []string{"celery"}})
	p.Adopt("ours", "celery")

	require.ErrorIs(t, enqueue(t, p, "typo", 0, "a"), messages.ErrQueueMissing)
	require.ErrorIs(t, enqueue(t, p, "typo", time.Second, "a"), messages.ErrQueueMissing)
	require.ErrorIs(t, enqueue(t, p, "celery", 0, "a"), messages.ErrQueueMissing)
	require.NoError(t, enqueue(t, p, "ours", 0, "a"))
	ch := raw(t, url)
	_, err := ch.QueueDelete("ours", false, false, false)
	require.NoError(t, err)
	require.NoError(t, enqueue(t, p, "ours", 0, "b"), "declared again")
	require.Equal(t, "b", get(t, ch, "ours").MessageId)
}

func TestDeadLettersGoToTheQueueOfTheirWorkQueue(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	require.NoError(t, p.DeadLetter(t.Context(), "q", message("a")))
	// A queue with a single active consumer does not answer basic.get.
	deliveries, err := raw(t, url).Consume("q.dead", "", true, false, false, false, nil)
	require.NoError(t, err)
	select {
	case d := <-deliveries:
		require.Equal(t, "a", d.MessageId)
	case <-time.After(patience):
		require.FailNow(t, "no dead letter")
	}
}

func TestDelayedMessagesArriveInTimeAndOnlyInTheirQueue(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("email", "high.email")
	require.NoError(t, enqueue(t, p, "email", 100*time.Millisecond, "first"), "binds the other queue too")
	require.Equal(t, "first", get(t, raw(t, url), "email").MessageId)
	for _, delay := range []time.Duration{200 * time.Millisecond, 1200 * time.Millisecond, 3 * time.Second} {
		sent := time.Now()
		require.NoError(t, enqueue(t, p, "high.email", delay, delay.String()))
		require.Equal(t, delay.String(), get(t, raw(t, url), "high.email").MessageId)
		require.GreaterOrEqual(t, time.Since(sent), delay)
	}
	_, ok, err := raw(t, url).Get("email", true)
	require.NoError(t, err)
	require.False(t, ok, "email got what was meant for high.email")
}

func TestWhatTheBrokerWouldPunishIsRefusedBeforeTheWrite(t *testing.T) {
	t.Parallel()
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, devstack.VHost(t)), Lanes: 1})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "a"))
	long := strings.Repeat("x", 256)
	for name, spoil := range map[string]func(*messages.Message){
		"message_id":       func(m *messages.Message) { m.MessageID = long },
		"correlation_id":   func(m *messages.Message) { m.CorrelationID = long },
		"reply_to":         func(m *messages.Message) { m.ReplyTo = long },
		"content_type":     func(m *messages.Message) { m.ContentType = long },
		"content_encoding": func(m *messages.Message) { m.ContentEncoding = long },
		"headers":          func(m *messages.Message) { m.Headers[long] = "x" },
		"body":             func(m *messages.Message) { m.Body = make([]byte, 16<<20+1) },
	} {
		m := message("b")
		spoil(m)
		err := p.Enqueue(t.Context(), "q", 0, m)
		var invalid *messages.InvalidError
		require.ErrorAs(t, err, &invalid, name)
		require.Equal(t, name, invalid.Field)
	}
	m := message("b")
	m.Headers["odd"] = struct{}{}
	var invalid *messages.InvalidError
	require.ErrorAs(t, p.Enqueue(t.Context(), "q", 0, m), &invalid)
	require.Equal(t, "up", p.State(), "the connection is still there")
	require.NoError(t, enqueue(t, p, "q", 0, "c"))
}

func TestWithoutABrokerPublishingIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	p := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: options(t, "amqp://127.0.0.1:1/")})
	background(t, p.Run)
	for _, delay := range []time.Duration{0, time.Minute} {
		// A context without a deadline: only the refusal can end the call.
		require.ErrorIs(t, p.Enqueue(t.Context(), "q", delay, message("a")), messages.ErrBrokerUnavailable)
	}
	require.Equal(t, "down", p.State())
}

func TestTopologyMismatchNamesTheQueueAndTheArgument(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	_, err := raw(t, url).QueueDeclare(rabbitmq.RejectedQueue, true, false, false, false, nil)
	require.NoError(t, err)
	p := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: options(t, url)})
	err = p.Run(t.Context())
	var te *rabbitmq.TopologyError
	require.ErrorAs(t, err, &te)
	require.ErrorContains(t, err, "queue lovage.rejected")
	require.ErrorContains(t, err, "x-queue-type")
}

func TestConcurrentPublishesAllArrive(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("q")
	const n = 500
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := enqueue(t, p, "q", 0, numbered(i)); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	require.Len(t, ids(t, raw(t, url), "q", n), n)
}

func TestInFlightMessagesAreBounded(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL()), MaxInFlight: 1})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "a"))
	require.NoError(t, broker.Freeze())
	t.Cleanup(func() { _ = broker.Thaw() })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := make(chan error, 1)
	go func() { first <- p.Enqueue(ctx, "q", 0, message("b")) }()
	require.Eventually(t, func() bool {
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := p.Enqueue(short, "q", 0, message("c"))
		require.Error(t, err)
		return strings.Contains(err.Error(), messages.ErrOverloaded.Error())
	}, patience, time.Millisecond)
	cancel()
	require.True(t, isOutcome(<-first))
}

// A frozen broker keeps its sockets open: nothing is refused, nothing is
// closed, and only the deadlines end a call.
func TestFrozenBrokerIsFoundAndRecoveredFrom(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "before"))
	require.NoError(t, broker.Freeze())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	err := p.Enqueue(ctx, "q", 0, message("during"))
	require.ErrorIs(t, err, messages.ErrUnconfirmed)
	cancel()
	awaitState(t, p, "down")
	require.ErrorIs(t, p.Enqueue(t.Context(), "q", 0, message("refused")), messages.ErrBrokerUnavailable)

	require.NoError(t, broker.Thaw())
	awaitState(t, p, "up")
	require.NoError(t, enqueue(t, p, "q", 0, "after"))
	seen := map[string]int{}
	ch := raw(t, broker.URL())
	for seen["after"] == 0 {
		seen[get(t, ch, "q").MessageId]++
	}
	require.Equal(t, 1, seen["before"])
	require.Zero(t, seen["refused"], "a refused message was published")
}

func TestMessagesInFlightSurviveABrokerThatIsKilled(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "before"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()

	// Publish until the kill has been felt and recovered from.
	const publishers = 8
	confirmed := make([][]string, publishers)
	recovered := make(chan struct{})
	var wg sync.WaitGroup
	for n := range publishers {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := numbered(n*100_000 + i)
				err := p.Enqueue(ctx, "q", 0, message(id))
				if err == nil {
					confirmed[n] = append(confirmed[n], id)
				}
				// What was in flight is sent again once the broker is back.
				if !isOutcome(err) || errors.Is(err, messages.ErrUnconfirmed) {
					t.Errorf("%s: %v", id, err)
				}
				select {
				case <-recovered:
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	}
	awaitAge(t, time.Second)
	require.NoError(t, broker.Kill())
	awaitState(t, p, "down")
	require.NoError(t, broker.Start(ctx))
	awaitState(t, p, "up")
	require.NoError(t, enqueue(t, p, "q", 0, "after"))
	close(recovered)
	wg.Wait()
	require.NoError(t, enqueue(t, p, "q", 0, "last"))

	seen := map[string]int{}
	ch := raw(t, broker.URL())
	for seen["last"] == 0 {
		seen[get(t, ch, "q").MessageId]++
	}
	for _, list := range confirmed {
		for _, id := range list {
			require.NotZero(t, seen[id], "%s was confirmed and is gone", id)
		}
	}
}

// awaitAge lets the queue that was just declared grow old enough to survive a
// kill: RabbitMQ 3 writes a queue's directory down only twice a second.
func awaitAge(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
}

// A queue that is deleted and declared again is again where delays end.
func TestDelaysReachAQueueThatWasDeletedAndDeclaredAgain(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 100*time.Millisecond, "a"))
	ch := raw(t, url)
	require.Equal(t, "a", get(t, ch, "q").MessageId)
	_, err := ch.QueueDelete("q", false, false, false)
	require.NoError(t, err)
	require.NoError(t, enqueue(t, p, "q", 0, "b"), "declares it")
	require.Equal(t, "b", get(t, ch, "q").MessageId)
	require.NoError(t, enqueue(t, p, "q", 100*time.Millisecond, "c"))
	require.Equal(t, "c", get(t, ch, "q").MessageId)
}

// One id in flight to two queues at once: each gets its own answer.
func TestAReturnBelongsToItsQueue(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url), Lanes: 1, Channels: 1})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "first"))
	for i := range 300 {
		var here, nowhere error
		var both sync.WaitGroup
		both.Go(func() { here = enqueue(t, p, "q", 0, numbered(i)) })
		both.Go(func() { nowhere = enqueue(t, p, "nowhere", 0, numbered(i)) })
		both.Wait()
		require.NoError(t, here)
		require.ErrorIs(t, nowhere, messages.ErrQueueMissing)
	}
}

// A queue that has lost its quorum neither confirms nor refuses. It alone is
// refused then, and found well again by itself.
func TestAnIllQueueDoesNotTakeTheOthersDown(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL()), MaxInFlight: 200})
	p.Adopt("ill", "good")
	require.NoError(t, enqueue(t, p, "ill", 0, "a"))
	require.NoError(t, enqueue(t, p, "good", 0, "a"))
	steer(t, broker, "suspend", "ill")
	var all sync.WaitGroup
	for i := range 400 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := p.Enqueue(ctx, "ill", 0, message(numbered(i))); err == nil || !isOutcome(err) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()
	refused := func() bool { // or it is the one that finds out how the queue is
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return errors.Is(p.Enqueue(ctx, "ill", 0, message("refused")), messages.ErrQueueUnavailable)
	}
	require.Eventually(t, refused, patience, time.Millisecond)
	for i := range 50 {
		require.NoError(t, enqueue(t, p, "good", 0, numbered(i)))
	}
	require.Eventually(t, refused, patience, time.Millisecond)

	steer(t, broker, "resume", "ill")
	require.Eventually(t, func() bool { return enqueue(t, p, "ill", 0, "after") == nil }, patience, 10*time.Millisecond)
}

// A queue that stands still for a while leaves its messages in doubt, and the
// callers that still have time get them confirmed when it goes on.
func TestMessagesInDoubtWaitForTheirQueue(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "before"))
	steer(t, broker, "suspend", "q")
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if err := enqueue(t, p, "q", 0, numbered(i)); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	require.Eventually(t, func() bool { // its connection was given up for it
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return errors.Is(p.Enqueue(ctx, "q", 0, message("refused")), messages.ErrQueueUnavailable)
	}, patience, time.Millisecond)
	steer(t, broker, "resume", "q")
	all.Wait()
}

// steer suspends or resumes the process of a queue, which says nothing
// meanwhile.
func steer(t *testing.T, broker *devstack.RabbitMQInstance, verb, queue string) {
	t.Helper()
	_, err := broker.Ctl(t.Context(), "eval", `sys:`+verb+`(list_to_atom("%2F_`+queue+`")).`)
	require.NoError(t, err)
}
