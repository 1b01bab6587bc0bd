package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// fakeEvents keeps events in memory; position n is behind the nth.
type fakeEvents struct {
	mu      sync.Mutex
	all     []Event
	gone    int // so many of them are not there any more
	err     error
	listens int
	watches int
	changed chan struct{}
}

func (e *fakeEvents) Listen(context.Context) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listens++
	return strconv.Itoa(len(e.all)), e.err
}

func (e *fakeEvents) Keep(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

func (e *fakeEvents) Read(_ context.Context, after string, n int) ([]Event, string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return nil, "", e.err
	}
	at, err := strconv.Atoi(after)
	if err != nil || at < e.gone || at > len(e.all) {
		return nil, "", ErrEventsGone
	}
	some := e.all[at:min(len(e.all), at+n)]
	return some, strconv.Itoa(at + len(some)), nil
}

func (e *fakeEvents) Watch() (<-chan struct{}, func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watches++
	return e.changed, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.watches--
	}
}

// tell adds changes of tasks, in state SUCCESS if no other is named: "id" or "id
// STATE name queue".
func (e *fakeEvents) tell(changes ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range changes {
		f := append(strings.Fields(one), "SUCCESS", "sleep_task", "default")
		if len(strings.Fields(one)) > 1 {
			f = strings.Fields(one)
		}
		e.all = append(e.all, Event{
			Position: strconv.Itoa(len(e.all) + 1), TaskID: f[0], State: messages.State(f[1]), Name: f[2], Queue: f[3],
			At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		})
	}
	notify(e.changed)
}

func (e *fakeEvents) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// lose forgets the oldest events.
func (e *fakeEvents) lose(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone = n
}

// listening runs the hub of a server, with times for tests.
func (s *server) listening(t *testing.T, change ...func(*hubTimes)) {
	t.Helper()
	s.hub.times = hubTimes{gap: time.Millisecond, look: 20 * time.Millisecond, keep: 10 * time.Millisecond, again: 10 * time.Millisecond, linger: time.Minute}
	for _, c := range change {
		c(&s.hub.times)
	}
	s.streamTimes.heartbeat = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = s.hub.run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// ids reads so many changes and returns their tasks.
func (l *listener) ids(n int) (ids []string) {
	l.t.Helper()
	for range n {
		e := l.event()
		require.Equal(l.t, "change", e.kind)
		_, rest, _ := strings.Cut(e.data, `"task_id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		ids = append(ids, id)
	}
	return ids
}

func TestAllEventsTellsEveryChangeInOrder(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.listening(t)
	h := s.serve(t)
	s.events.tell("before")
	l, other := hear(t, h, "/v1/events"), hear(t, h, "/v1/events")
	require.Equal(t, eventsType, l.res.Header.Get("Content-Type"))
	s.events.tell("a")
	e := l.event()
	require.Equal(t, heard{"change", "2", `{"task_id":"a","state":"SUCCESS","name":"sleep_task","queue":"default","time":"2026-01-02T03:04:05Z"}`}, e)
	s.events.tell("b", "a", "c")
	require.Equal(t, []string{"b", "a", "c"}, l.ids(3))
	require.Equal(t, []string{"a", "b", "a", "c"}, other.ids(4))
	require.Equal(t, 1, s.events.listens, "once for all")
}

func TestAllEventsFilters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.listening(t)
	h := s.serve(t)
	for query, want := range map[string][]string{
		"?state=FAILURE,revoked":                {"b", "c"},
		"?state=FAILURE&state=REVOKED":          {"b", "c"},
		"?queue=mail":                           {"c", "d"},
		"?name=send":                            {"d"},
		"?state=SUCCESS&queue=mail&name=send":   {"d"},
		"?state=SUCCESS&queue=default&name=one": {"a"},
	} {
		l := hear(t, h, "/v1/events"+query)
		s.events.tell("a SUCCESS one default", "b FAILURE one default", "c REVOKED one mail", "d SUCCESS send mail")
		require.Equal(t, want, l.ids(len(want)), query)
		l.hangUp()
	}
	for _, wrong := range []string{"?state=x", "?queue=", "?worker=w", "?name=a&name=b"} {
		requireProblem(t, s.ask(t, get, "/v1/events"+wrong, ""), http.StatusUnprocessableEntity, slugParameters)
	}
}

func TestAllEventsGoOnWhereTheyBroke(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.listening(t)
	h := s.serve(t)
	l := hear(t, h, "/v1/events?queue=mail")
	s.events.tell("a SUCCESS one mail", "b")
	first := l.event()
	require.Equal(t, "1", first.id)
	for {
		// The heartbeat tells from where to go on, whatever was filtered out.
		beat, err := l.next()
		require.NoError(t, err)
		if require.Empty(t, beat.kind); beat.id == "2" {
			break
		}
	}
	l.hangUp()
	s.events.tell("c", "d SUCCESS one mail")
	back := hear(t, h, "/v1/events?queue=mail", "Last-Event-ID: 2")
	require.Equal(t, []string{"d"}, back.ids(1))
	all := hear(t, h, "/v1/events", "Last-Event-ID: 1")
	s.events.tell("e")
	require.Equal(t, []string{"b", "c", "d", "e"}, all.ids(4))
}

func TestWhoIsFarBehindReadsFromTheStore(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.listening(t)
	h := s.serve(t)
	const n = 3*hubKept + 500
	var many []string
	for i := range n {
		many = append(many, fmt.Sprint(i))
	}
	hear(t, h, "/v1/events") // keeps the hub reading
	s.events.tell(many...)
	require.Eventually(t, func() bool { _, p := s.hub.end(); return p == strconv.Itoa(n) }, 20*time.Second, time.Millisecond)
	late := hear(t, h, "/v1/events", "Last-Event-ID: 0")
	require.Equal(t, many, late.ids(n))
	s.events.tell("last")
	require.Equal(t, []string{"last"}, late.ids(1))
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	require.Less(t, len(s.hub.ring), 2*hubKept, "what is at hand is bounded")
}

func TestAGapIsTold(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.listening(t)
	h := s.serve(t)
	s.events.tell("a", "b", "c")
	s.events.lose(2)
	for _, position := range []string{"1", "no position", "99"} {
		l := hear(t, h, "/v1/events", "Last-Event-ID: "+position)
		gap := l.event()
		require.Equal(t, "gap", gap.kind, position)
		require.NotEmpty(t, gap.id)
		s.events.tell("next")
		require.Equal(t, []string{"next"}, l.ids(1), "from the gap on nothing is missing")
		l.hangUp()
	}
}

func TestAStreamOfAllEventsOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.listening(t)
	l := hear(t, s.serve(t), "/v1/events")
	s.events.tell("a")
	require.Equal(t, []string{"a"}, l.ids(1))
	s.events.fail(messages.ErrStoreUnavailable)
	s.events.tell("b")
	for range 3 {
		beat, err := l.next()
		require.NoError(t, err)
		require.Empty(t, beat.kind)
	}
	s.events.fail(nil)
	require.Equal(t, []string{"b"}, l.ids(1), "nothing is missed")

	s.events.fail(ErrEventsGone)
	s.events.tell("lost")
	require.Equal(t, "gap", l.event().kind)
	s.events.fail(nil)
}

func TestNothingIsReadWhileNobodyListens(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.listening(t, func(h *hubTimes) { h.linger = 0 })
	l := hear(t, s.serve(t), "/v1/events")
	s.events.tell("a")
	l.ids(1)
	l.hangUp()
	watching := func() int {
		s.events.mu.Lock()
		defer s.events.mu.Unlock()
		return s.events.watches
	}
	require.Eventually(t, func() bool { return watching() == 0 }, 10*time.Second, time.Millisecond)
}

func TestAllEventsNeedTheStoreToBegin(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *Options) { o.ReadTimeout = 20 * time.Millisecond })
	s.listening(t)
	s.events.fail(messages.ErrStoreUnavailable)
	requireProblem(t, s.ask(t, get, "/v1/events", ""), http.StatusServiceUnavailable, "store-unavailable")
	s.Drain()
	requireProblem(t, s.ask(t, get, "/v1/events", ""), http.StatusServiceUnavailable, slugStopping)
}

func TestAllEventsEndWhenTheServerStops(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.listening(t)
	l := hear(t, s.serve(t), "/v1/events")
	s.events.tell("a")
	l.ids(1)
	s.Drain()
	l.requireEnd()
}
