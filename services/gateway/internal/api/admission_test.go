package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// slowPublisher confirms after a while, and refuses at once when it is down.
type slowPublisher struct {
	*fakePublisher
	takes time.Duration
	down  atomic.Bool
}

func (p *slowPublisher) Enqueue(ctx context.Context, queue string, delay time.Duration, m *messages.Message) error {
	if p.down.Load() {
		return messages.ErrBrokerUnavailable
	}
	<-time.After(p.takes)
	return p.fakePublisher.Enqueue(ctx, queue, delay, m)
}

func (p *slowPublisher) State() string {
	if p.down.Load() {
		return "down"
	}
	return "up"
}

// newBusyServer is a server that has room for two submissions, which are in
// flight for 300 ms. It has to run in a bubble, which must not end before done.
func newBusyServer(t *testing.T) (s *server, p *slowPublisher, done func()) {
	t.Helper()
	p = &slowPublisher{fakePublisher: &fakePublisher{}}
	s = newServer(t, func(o *Options) { o.Publisher, o.MaxInFlight = p, 2 })
	require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask, `{"duration":1}`).Code, "the broker works")
	p.takes = 300 * time.Millisecond
	codes := make(chan int)
	for range 2 {
		go func() { codes <- s.ask(t, post, sleepTask, `{"duration":1}`).Code }()
	}
	synctest.Wait()
	return s, p, func() {
		for range 2 {
			require.Equal(t, http.StatusAccepted, <-codes)
		}
	}
}

func TestTooManyAreRefusedBeforeAnythingIsRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _, done := newBusyServer(t)
		reserved := s.keys.reserved
		for _, header := range []string{keyed, "X-Request-Id: none", "Request-Timeout: 99"} {
			begun := time.Now()
			w := s.ask(t, post, "/v1/tasks/no.such.task", `not even JSON`, header)
			require.Equal(t, "1", w.Header().Get("Retry-After"))
			p := requireProblem(t, w, http.StatusServiceUnavailable, "overloaded")
			require.True(t, p.Retryable)
			require.Contains(t, p.Detail, "only 2 may be in flight")
			require.Zero(t, time.Since(begun))
		}
		require.Equal(t, reserved, s.keys.reserved, "Redis was not asked")
		requireProblem(t, s.ask(t, post, "/v1/tasks", `{}`), http.StatusServiceUnavailable, "overloaded")
		done()
		require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask, `{"duration":1}`).Code, "there is room again")
	})
}

func TestBatchIsNotRefusedWhereSubmissionsAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _, done := newBusyServer(t)
		w := s.ask(t, post, routeBatch, `[{"task":"sleep_task","args":[1]},{"task":"sleep_task","args":[2]},{"task":"sleep_task","args":[3]}]`)
		require.NotContains(t, w.Body.String(), "overloaded")
		done()
	})
}

func TestAbsentBrokerIsToldEvenWhereTooManyAreInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, p, done := newBusyServer(t)
		p.down.Store(true)
		requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`), http.StatusServiceUnavailable, "broker-unavailable")
		done()
	})
}

func TestQueueThatIsFullSaysSo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.publisher.err = &messages.QueueFullError{Queue: "default", Limit: 1000, RetryAfter: 17 * time.Second}
	w := s.ask(t, post, sleepTask, `{"duration":1}`)
	require.Equal(t, "17", w.Header().Get("Retry-After"))
	p := requireProblem(t, w, http.StatusTooManyRequests, slugQueueFull)
	require.Contains(t, p.Detail, `1000 tasks wait in queue "default"`)
	require.Contains(t, p.Detail, "LOVAGE_MAX_QUEUE_DEPTH")
}

// BenchmarkRefusal is what an overload costs for each that is refused, to be
// compared with BenchmarkSubmit.
func BenchmarkRefusal(b *testing.B) {
	store := &fakeStore{entries: []messages.CatalogEntry{sleepEntry()}}
	a, err := New(Options{Publisher: sink{}, Results: store, Recorder: sink{}, Watcher: store, Catalog: store, Keys: &fakeKeys{}, MaxInFlight: 1})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		a.limiter.answered, a.limiter.inFlight, a.limiter.limit = time.Now(), 1, 1
		r := httptest.NewRequestWithContext(b.Context(), post, sleepTask, strings.NewReader(`{"duration":5}`))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		a.ServeHTTP(discard{http.Header{}}, r)
	}
}
