package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// start runs the refresh loop until the test ends.
func (s *server) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

func TestCatalogShowsEverything(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.catalog.refresh(t.Context(), 0)
	w := s.ask(t, get, "/v1/catalog", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	var answer struct{ Tasks []map[string]any }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.Len(t, answer.Tasks, 2)
	require.Equal(t, "send_mail", answer.Tasks[0]["name"])
	require.Nil(t, answer.Tasks[0]["input_schema"])
	require.Equal(t, []any{}, answer.Tasks[0]["params"])
	require.Equal(t, "sleep_task", answer.Tasks[1]["name"])
	require.InDelta(t, 1, answer.Tasks[1]["alive"], 0)
	require.NotNil(t, answer.Tasks[1]["input_schema"])
}

func TestCatalogThatWasNeverLoaded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.announce(messages.ErrStoreUnavailable)
	for _, c := range [][3]string{{post, "/v1/tasks/sleep_task", `{}`}, {get, "/v1/catalog", ""}} {
		w := s.ask(t, c[0], c[1], c[2])
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.True(t, requireProblem(t, w, http.StatusServiceUnavailable, slugNoCatalog).Retryable)
	}
}

func TestCatalogOutlivesTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		s := newServer(t, func(o *Options) { o.Log = zap.New(core) })
		s.start(t)
		synctest.Wait()
		s.store.announce(messages.ErrStoreUnavailable)
		<-time.After(5 * time.Second)
		require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`).Code)
		begun := time.Now()
		requireProblem(t, s.ask(t, post, "/v1/tasks/other", `{}`), http.StatusNotFound, slugUnknownTask)
		require.Zero(t, time.Since(begun), "nobody waits for a store that is known to be away")
		require.Equal(t, "down", decode(t, s.ask(t, get, "/readyz", ""))["redis"])
		require.Equal(t, 1, logs.FilterMessage("catalog not loaded, keeping the last one").Len(), "an outage is told once")

		s.store.announce(nil, messages.CatalogEntry{Name: "other", Queue: "q"})
		<-time.After(2 * time.Second)
		require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/other", `{}`).Code)
		requireProblem(t, s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`), http.StatusNotFound, slugUnknownTask)
		require.Equal(t, "up", decode(t, s.ask(t, get, "/readyz", ""))["redis"])
		require.Equal(t, 1, logs.FilterMessage("catalog loads again").Len())
	})
}

func TestUnknownNameLooksAgainButNotTooOften(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		requireProblem(t, s.ask(t, post, "/v1/tasks/fresh", `{}`), http.StatusNotFound, slugUnknownTask)
		require.Equal(t, 1, s.store.loads)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { s.ask(t, post, "/v1/tasks/fresh", `{}`) })
		}
		all.Wait()
		require.Equal(t, 1, s.store.loads)
		s.store.announce(nil, messages.CatalogEntry{Name: "fresh", Queue: "q"})
		<-time.After(refreshAtMost)
		require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/fresh", `{}`).Code, "the worker has just started")
		require.Equal(t, 2, s.store.loads)
	})
}

func TestStoreThatHangsHoldsUpOnlyTheFirstUnknownName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(o *Options) { o.ReadTimeout = time.Second })
		s.store.hang = true
		begun := time.Now()
		requireProblem(t, s.ask(t, post, "/v1/tasks/x", `{}`), http.StatusServiceUnavailable, slugNoCatalog)
		require.Equal(t, time.Second, time.Since(begun))
		requireProblem(t, s.ask(t, post, "/v1/tasks/x", `{}`), http.StatusServiceUnavailable, slugNoCatalog)
		require.Equal(t, time.Second, time.Since(begun))
	})
}

func TestInputIsValidIfAnyLiveVersionTakesIt(t *testing.T) {
	t.Parallel()
	version := func(field, queue string, alive int, day int) messages.CatalogEntry {
		return messages.CatalogEntry{
			Name: "v", Queue: queue, Alive: alive, AnnouncedAt: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC),
			Input: json.RawMessage(fmt.Sprintf(`{"type":"object","required":[%q],"additionalProperties":false,"properties":{%q:{}}}`, field, field)),
		}
	}
	s := newServer(t)
	s.store.announce(nil, version("old", "q1", 1, 1), version("new", "q2", 1, 3), version("dead", "q3", 0, 4))
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/v", `{"old":1}`).Code)
	require.Equal(t, "q1", s.publisher.last(t).queue)
	p := requireProblem(t, s.ask(t, post, "/v1/tasks/v", `{"dead":1}`), http.StatusUnprocessableEntity, slugInput)
	require.Equal(t, []string{"/dead", "/new"}, pointers(p), "the newest live version says what is wrong")

	asleep := newServer(t)
	asleep.store.announce(nil, version("old", "q1", 0, 1))
	require.Equal(t, http.StatusAccepted, asleep.ask(t, post, "/v1/tasks/v", `{"old":1}`).Code, "a fleet may be scaled to zero")
}

func TestSchemaThatCannotBeUsedDoesNotStopSubmissions(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{`{"type":"nope"}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"https://example.com/x"}`, `{"pattern":"("}`, `nonsense`} {
		core, logs := observer.New(zap.WarnLevel)
		s := newServer(t, func(o *Options) { o.Log = zap.New(core) })
		s.store.announce(nil, messages.CatalogEntry{Name: "x", Queue: "q", Input: json.RawMessage(schema)})
		require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/x", `{"a":1}`).Code, schema)
		require.Equal(t, 1, logs.FilterMessage("input schema not usable, input is not checked").Len(), schema)
		require.Equal(t, http.StatusOK, s.ask(t, get, "/openapi.json", "").Code)
	}
}

func TestSnapshotIsMadeAnewOnlyWhenTheCatalogChanges(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.catalog.refresh(t.Context(), 0)
	first := s.catalog.current.Load()
	s.catalog.refresh(t.Context(), 0)
	require.Same(t, first, s.catalog.current.Load())
	woken := sleepEntry()
	woken.Alive = 2
	s.store.announce(nil, woken)
	s.catalog.refresh(t.Context(), 0)
	require.NotSame(t, first, s.catalog.current.Load())
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for range 20 {
		s := newServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		cancel()
		require.NoError(t, <-done)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"sleep_task", "send_mail", "proj.add", "proj.mul", "thumbnail", "http_request", "audit"}
	require.Equal(t, "sleep_task", nearest("sleep_taks", known)[0])
	require.Equal(t, "sleep_task", nearest("SLEEP", known)[0])
	require.Equal(t, "proj.add", nearest("add", known)[0])
	require.Equal(t, "thumbnail", nearest("thumnail", known)[0])
	require.Len(t, nearest("x", known), 5)
	require.Empty(t, nearest("x", nil))
	require.Equal(t, 3, distance("kitten", "sitting"))
	require.Equal(t, 2, distance("größe", "grosse")-1)
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := New(Options{})
	var invalid *messages.InvalidError
	require.ErrorAs(t, err, &invalid)
	for _, name := range []string{"Publisher", "Results", "Recorder", "Watcher", "Catalog"} {
		require.ErrorContains(t, err, name)
	}
}
