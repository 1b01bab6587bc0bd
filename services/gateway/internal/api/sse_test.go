package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// listener reads one event stream.
type listener struct {
	t      *testing.T
	res    *http.Response
	lines  *bufio.Scanner
	hangUp context.CancelFunc
}

// heard is one event, or a comment, whose kind is empty.
type heard struct{ kind, id, data string }

// serve puts the API behind a server with the timeouts of a server.
func (s *server) serve(t *testing.T) *httptest.Server {
	t.Helper()
	h := httptest.NewUnstartedServer(s)
	h.Config.ReadTimeout, h.Config.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	h.Start()
	t.Cleanup(h.Close)
	return h
}

// hear opens a stream; headers are "Name: value".
func hear(t *testing.T, h *httptest.Server, path string, headers ...string) *listener {
	t.Helper()
	ctx, hangUp := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(hangUp)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+path, http.NoBody)
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	res, err := h.Client().Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	return &listener{t: t, res: res, lines: bufio.NewScanner(res.Body), hangUp: hangUp}
}

// next returns the next event, or comment; the error is that of the stream.
func (l *listener) next() (e heard, err error) {
	l.t.Helper()
	begun := false
	for l.lines.Scan() {
		name, value, _ := strings.Cut(l.lines.Text(), ": ")
		switch name {
		case "event":
			e.kind = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "retry":
			begun = false
			l.lines.Scan()
			continue
		case "":
			if begun {
				return e, nil
			}
		}
		begun = true
	}
	if err := l.lines.Err(); err != nil {
		return e, err
	}
	return e, io.EOF
}

// event returns the next event.
func (l *listener) event() heard {
	l.t.Helper()
	for {
		e, err := l.next()
		require.NoError(l.t, err)
		if e.kind != "" {
			return e
		}
	}
}

func (l *listener) requireEnd() {
	l.t.Helper()
	for {
		e, err := l.next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(l.t, err)
		require.Empty(l.t, e.kind, "nothing more is to come")
	}
}

func TestTaskEventsTellEachChangeAndEndWithTheTask(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := s.serve(t)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	l := hear(t, h, "/v1/tasks/t1/events")
	require.Equal(t, http.StatusOK, l.res.StatusCode)
	require.Equal(t, eventsType, l.res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", l.res.Header.Get("Cache-Control"))

	first := l.event()
	require.Equal(t, "task", first.kind)
	require.Contains(t, first.data, `"task_id":"t1","state":"STARTED"`)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Progress, Progress: &messages.ProgressInfo{Current: 1, Total: 2, Percent: 50}})
	require.Contains(t, l.event().data, `"percent":50`)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Success, Value: []byte(`{"a":[1]}`)})
	last := l.event()
	require.Contains(t, last.data, `"result":{"a":[1]}`)
	require.NotEqual(t, first.id, last.id)
	l.requireEnd()
	require.Eventually(t, func() bool { return s.store.watching() == 0 && s.streams.count() == 0 }, 10*time.Second, time.Millisecond)
}

func TestTaskEventsGoOnWhereTheyBroke(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := s.serve(t)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	before := hear(t, h, "/v1/tasks/t1/events").event().id

	same := hear(t, h, "/v1/tasks/t1/events", "Last-Event-ID: "+before)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Success})
	require.Contains(t, same.event().data, "SUCCESS", "STARTED is not told twice")
	same.requireEnd()

	missed := hear(t, h, "/v1/tasks/t1/events", "Last-Event-ID: "+before)
	end := missed.event()
	require.Contains(t, end.data, "SUCCESS", "what was missed is told at once")

	over := hear(t, h, "/v1/tasks/t1/events", "Last-Event-ID: "+end.id)
	require.Equal(t, http.StatusNoContent, over.res.StatusCode, "which keeps a browser from coming back")
}

func TestAStreamOutlivesTheTimeoutsOfTheServerAndBeats(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.streamTimes.heartbeat = 50 * time.Millisecond
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	l := hear(t, s.serve(t), "/v1/tasks/t1/events")
	l.event()
	for range 10 {
		beat, err := l.next()
		require.NoError(t, err)
		require.Empty(t, beat)
	}
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Success})
	require.Contains(t, l.event().data, "SUCCESS")
}

func TestAnEventNobodyWasToldOfIsFoundWithTheHeartbeat(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.streamTimes.heartbeat = 20 * time.Millisecond
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	l := hear(t, s.serve(t), "/v1/tasks/t1/events")
	l.event()
	s.store.mu.Lock()
	s.store.records["t1"] = &messages.Result{TaskID: "t1", State: messages.Success}
	s.store.mu.Unlock()
	require.Contains(t, l.event().data, "SUCCESS")
}

func TestAStreamWaitsForAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.streamTimes.again = 10 * time.Millisecond
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	l := hear(t, s.serve(t), "/v1/tasks/t1/events")
	l.event()
	s.store.fail(messages.ErrStoreUnavailable)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Success})
	for range 3 {
		beat, err := l.next()
		require.NoError(t, err)
		require.Empty(t, beat)
	}
	s.store.fail(nil)
	require.Contains(t, l.event().data, "SUCCESS")
}

func TestAStreamEndsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	l := hear(t, s.serve(t), "/v1/tasks/t1/events")
	l.event()
	s.Drain()
	l.requireEnd()
}

func TestAStreamEndsWhenItsClientHasGone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	l := hear(t, s.serve(t), "/v1/tasks/t1/events")
	l.event()
	require.Equal(t, 1, s.store.watching())
	l.hangUp()
	require.Eventually(t, func() bool { return s.store.watching() == 0 && s.streams.count() == 0 }, 10*time.Second, time.Millisecond)
}

func TestAStreamEndsWhenTheRecordIsGone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.streamTimes.heartbeat = 20 * time.Millisecond
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	l := hear(t, s.serve(t), "/v1/tasks/t1/events")
	l.event()
	s.store.mu.Lock()
	delete(s.store.records, "t1")
	s.store.mu.Unlock()
	l.requireEnd()
}

func TestWhatCannotBeWatchedIsAProblem(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	requireProblem(t, s.ask(t, get, "/v1/tasks/whatever/events", ""), http.StatusNotFound, slugTaskNotFound)
	requireProblem(t, s.ask(t, get, "/v1/tasks/"+messages.NewID()+"/events", ""), http.StatusNotFound, slugNotRecorded)
	requireProblem(t, s.ask(t, get, "/v1/tasks/t1/events?x=1", ""), http.StatusUnprocessableEntity, slugParameters)
	s.store.fail(messages.ErrStoreUnavailable)
	requireProblem(t, s.ask(t, get, "/v1/tasks/t1/events", ""), http.StatusServiceUnavailable, "store-unavailable")
	require.Zero(t, s.store.watching())
	require.Zero(t, s.streams.count())
}

func TestHeadOfAStreamDoesNotWait(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	w := s.ask(t, http.MethodHead, "/v1/tasks/t1/events", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, eventsType, w.Header().Get("Content-Type"))
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *Options) {
		o.MaxStreams, o.MaxStreamsPerCaller = 3, 2
		o.Caller = func(r *http.Request) string { return r.Header.Get("Authorization") }
	})
	h := s.serve(t)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	open := func(caller string) *listener { return hear(t, h, "/v1/tasks/t1/events", "Authorization: "+caller) }
	first := open("a")
	open("a")
	w := s.ask(t, get, "/v1/tasks/t1/events", "", "Authorization: a")
	require.Contains(t, requireProblem(t, w, http.StatusTooManyRequests, slugTooManyStreams).Detail, "LOVAGE_MAX_STREAMS_PER_CALLER")
	open("b")
	w = s.ask(t, get, "/v1/tasks/t1/events", "", "Authorization: c")
	require.Contains(t, requireProblem(t, w, http.StatusServiceUnavailable, slugOverloaded).Detail, "LOVAGE_MAX_STREAMS")

	first.hangUp()
	require.Eventually(t, func() bool { return s.streams.count() == 2 }, 10*time.Second, time.Millisecond)
	require.Equal(t, http.StatusOK, open("a").res.StatusCode)
}

func TestPatientRequestsOutliveTheReadTimeout(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := httptest.NewUnstartedServer(s)
	h.Config.ReadTimeout = 100 * time.Millisecond
	h.Start()
	t.Cleanup(h.Close)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	begun := time.Now()
	l := hear(t, h, "/v1/tasks/t1", "Prefer: wait=1")
	require.Equal(t, http.StatusOK, l.res.StatusCode)
	require.GreaterOrEqual(t, time.Since(begun), time.Second)
}
