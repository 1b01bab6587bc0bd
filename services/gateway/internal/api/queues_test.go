package api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func (s *server) queues(t *testing.T) map[string]bool {
	t.Helper()
	w := s.ask(t, get, "/v1/queues", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	paused := map[string]bool{}
	for _, q := range decode(t, w)["queues"].([]any) {
		v := q.(map[string]any)
		paused[v["name"].(string)] = v["paused"].(bool)
	}
	return paused
}

func TestQueuesArePausedAndResumed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.catalog.refresh(t.Context(), 0)
	require.Equal(t, map[string]bool{"default": false, "mail": false}, s.queues(t))
	for _, q := range []string{"default", "unheard-of"} {
		w := s.ask(t, post, "/v1/queues/"+q+"/pause", "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		require.Equal(t, true, decode(t, w)["paused"])
	}
	require.Equal(t, map[string]bool{"default": true, "mail": false, "unheard-of": true}, s.queues(t))
	w := s.ask(t, post, "/v1/queues/default/resume", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.Equal(t, map[string]bool{"default": false, "mail": false, "unheard-of": true}, s.queues(t))

	requireProblem(t, s.ask(t, post, "/v1/queues/celery/pause", ""), http.StatusConflict, slugForeign)
	requireProblem(t, s.ask(t, post, "/v1/queues/lovage.x/pause", ""), http.StatusNotFound, slugNotFound)
	s.store.err = messages.ErrStoreUnavailable
	requireProblem(t, s.ask(t, post, "/v1/queues/mail/pause", ""), http.StatusServiceUnavailable, "store-unavailable")
}
