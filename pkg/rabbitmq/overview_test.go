package rabbitmq_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

func overview(t *testing.T, o rabbitmq.Options, management string) *rabbitmq.Overview {
	t.Helper()
	v, err := rabbitmq.NewOverview(o, management)
	require.NoError(t, err)
	background(t, v.Run)
	return v
}

// statsOf waits until what is known of a queue is as wanted.
func statsOf(t *testing.T, v *rabbitmq.Overview, queue string, enough func(s messages.QueueStats, delayed *int) bool) messages.QueueStats {
	t.Helper()
	var s messages.QueueStats
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		stats, delayed := v.Stats(ctx, []string{queue, "none"})
		require.NotContains(t, stats, "none")
		var found bool
		s, found = stats[queue]
		return found && enough(s, delayed)
	}, 60*time.Second, 50*time.Millisecond, "last seen %+v", &s)
	return s
}

func TestAnOverviewByTheManagementAPI(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: options(t, url), Intakes: []rabbitmq.Intake{{Queue: "q", Prefetch: 2}}})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("q")
	v := overview(t, options(t, url), devstack.SharedBroker(t).Management)
	for i := range 5 {
		require.NoError(t, enqueue(t, p, "q", 0, numbered(i)))
	}
	require.NoError(t, enqueue(t, p, "q", time.Hour, "later"))
	require.NoError(t, p.DeadLetter(t.Context(), "q", message("dead")))
	next(t, deliveries)
	s := statsOf(t, v, "q", func(s messages.QueueStats, delayed *int) bool {
		return s.Ready != nil && *s.Ready == 3 && s.Unacked != nil && *s.Unacked == 2 && s.Dead != nil && *s.Dead == 1 &&
			delayed != nil && *delayed == 1 && s.Oldest != nil && *s.Oldest > 0
	})
	require.Equal(t, 1, *s.Consumers)
	require.WithinDuration(t, time.Now(), s.At, 30*time.Second)
	require.NoError(t, next(t, deliveries).Ack())
	statsOf(t, v, "q", func(s messages.QueueStats, _ *int) bool { return *s.Ready == 2 && s.Out != nil && *s.Out > 0 })
}

// Without the management API, or while it is away, queues are counted over AMQP.
func TestAnOverviewWithoutTheManagementAPI(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	broken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(broken.Close)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: options(t, url), Intakes: []rabbitmq.Intake{{Queue: "q", Prefetch: 1}}})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	for _, id := range []string{"a", "b"} {
		require.NoError(t, enqueue(t, p, "q", 0, id))
	}
	require.NoError(t, p.DeadLetter(t.Context(), "q", message("dead")))
	next(t, deliveries)
	for _, management := range []string{"", broken.URL} {
		v := overview(t, options(t, url), management)
		s := statsOf(t, v, "q", func(s messages.QueueStats, delayed *int) bool { return *s.Ready == 1 && *s.Dead == 1 && delayed == nil })
		require.Equal(t, 1, *s.Consumers)
		require.Nil(t, s.Unacked)
		require.Nil(t, s.Oldest)
		n, err := v.Ready(t.Context(), "q")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = v.Ready(t.Context(), "none")
		require.ErrorIs(t, err, messages.ErrQueueMissing)
		n, err = v.Ready(t.Context(), "q")
		require.NoError(t, err)
		require.Equal(t, 1, n, "it asks again after a refusal")
	}
}

func TestAnOverviewOfABrokerThatIsAwayTellsNothingSoon(t *testing.T) {
	t.Parallel()
	v := overview(t, options(t, "amqp://guest:guest@127.0.0.1:1/"), "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stats, delayed := v.Stats(ctx, []string{"q"})
	require.NoError(t, ctx.Err())
	require.Empty(t, stats)
	require.Nil(t, delayed)
	_, err := v.Ready(ctx, "q")
	require.ErrorIs(t, err, messages.ErrBrokerUnavailable)
}

func TestThePasswordOfTheManagementAPIIsNotTold(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"amqp://u:secret@h", "http://u:secret@h:x", "u:secret", "http://"} {
		_, err := rabbitmq.NewOverview(options(t, "amqp://h"), address)
		require.Error(t, err, address)
		require.NotContains(t, err.Error(), "secret")
	}
	core, logs := observer.New(zap.DebugLevel)
	o := options(t, "amqp://guest:guest@127.0.0.1:1/")
	o.Log = zap.New(core)
	overview(t, o, "http://u:secret@127.0.0.1:1")
	require.Eventually(t, func() bool { return logs.FilterMessage("management api changed").Len() > 0 }, patience, 10*time.Millisecond)
	for _, line := range logs.All() {
		for _, f := range line.Context {
			require.NotContains(t, strings.ToLower(f.String), "secret")
			if f.Interface != nil {
				if err, ok := f.Interface.(error); ok {
					require.NotContains(t, err.Error(), "secret")
				}
			}
		}
	}
}
