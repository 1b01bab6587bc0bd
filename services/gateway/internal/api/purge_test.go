package api

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

type fakePurger struct{ *fakeDepths }

func (p fakePurger) Ready(_ context.Context, queue string) (int, error) {
	n, found := p.waiting[queue]
	if !found {
		return 0, messages.ErrQueueMissing
	}
	return n, nil
}

func (p fakePurger) Purge(_ context.Context, queue string, most int) (int, error) {
	n := min(most, p.waiting[queue])
	p.waiting[queue] -= n
	return n, p.broken
}

func TestAQueueIsPurgedWhenSomebodyMeansIt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.depths.waiting = map[string]int{"default": 5}
	purge := func(query string) map[string]any {
		t.Helper()
		w := s.ask(t, post, "/v1/queues/default/purge"+query, "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		return decode(t, w)
	}
	expect := func(got map[string]any, ready, purged string, more, dryRun bool) {
		t.Helper()
		require.EqualValues(t, ready, got["ready"])
		require.EqualValues(t, purged, got["purged"])
		require.Equal(t, []any{"default", more, dryRun}, []any{got["name"], got["more"], got["dry_run"]})
	}
	requireProblem(t, s.ask(t, post, "/v1/queues/default/purge", ""), http.StatusUnprocessableEntity, slugParameters)
	requireProblem(t, s.ask(t, post, "/v1/queues/default/purge?all=false", ""), http.StatusUnprocessableEntity, slugParameters)
	expect(purge("?dry_run=true"), "5", "0", false, true)
	expect(purge("?all=true&dry_run=true"), "5", "0", false, true)
	expect(purge("?all=true&limit=2"), "5", "2", false, false)
	expect(purge("?all=true"), "3", "3", false, false)
	expect(purge("?all=true"), "0", "0", false, false)
	requireProblem(t, s.ask(t, post, "/v1/queues/celery/purge?all=true", ""), http.StatusConflict, slugForeign)
	requireProblem(t, s.ask(t, post, "/v1/queues/unheard-of/purge?all=true", ""), http.StatusNotFound, slugNotFound)
	s.depths.waiting["default"], s.depths.broken = 3, messages.ErrBrokerUnavailable
	expect(purge("?all=true&limit=2"), "3", "2", false, false)
}

func TestAQueueIsMeasuredAsFarAsTheBrokerSays(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.catalog.refresh(t.Context(), 0)
	read := func() map[string]any {
		w := s.ask(t, get, "/v1/queues/mail", "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		return decode(t, w)
	}
	for _, field := range []string{"ready", "unacked", "depth", "dead", "consumers", "rate_in", "rate_out", "oldest_age", "as_of"} {
		value, there := read()[field]
		require.True(t, there, field)
		require.Nil(t, value, field)
	}
	s.depths.stats = map[string]messages.QueueStats{"mail": {
		Ready: new(3), Unacked: new(2), Dead: new(1), Consumers: new(4), In: new(1.239), Out: new(0.5), Oldest: new(90 * time.Second),
		At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}}
	q := read()
	for field, want := range map[string]string{"ready": "3", "unacked": "2", "depth": "5", "dead": "1", "consumers": "4", "rate_in": "1.24", "rate_out": "0.5", "oldest_age": "90"} {
		require.EqualValues(t, want, q[field], field)
	}
	require.Equal(t, "2026-01-02T03:04:05Z", q["as_of"])
	s.depths.stats["mail"] = messages.QueueStats{Ready: new(3), At: time.Now()}
	require.Nil(t, read()["depth"])
	w := s.ask(t, get, "/openapi.json", "")
	for _, field := range []string{`"oldest_age"`, `"goroutines"`, `"purged"`, `"delayed"`} {
		require.Contains(t, w.Body.String(), field)
	}
}
