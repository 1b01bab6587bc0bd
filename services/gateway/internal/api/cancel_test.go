package api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestCancelAnswersWhatBecameOfTheTask(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	put := func(id, queue string, state messages.State) {
		s.store.put(&messages.Result{TaskID: id, State: state, Name: "sleep_task", Queue: queue})
	}
	put("waits", "default", messages.Pending)
	put("runs", "default", messages.Progress)
	put("revoked", "default", messages.Revoked)
	put("done", "default", messages.Success)
	put("celery's", "celery", messages.Pending)
	put("nobody's", "", messages.Started)

	w := s.ask(t, post, "/v1/tasks/waits/cancel", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.Equal(t, "REVOKED", decode(t, w)["state"])
	w = s.ask(t, post, "/v1/tasks/runs/cancel", "")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Equal(t, "PROGRESS", decode(t, w)["state"])
	w = s.ask(t, post, "/v1/tasks/revoked/cancel", "")
	require.Equal(t, http.StatusOK, w.Code, "again is fine")

	p := requireProblem(t, s.ask(t, post, "/v1/tasks/done/cancel", ""), http.StatusConflict, slugEnded)
	require.Equal(t, "done", p.TaskID)
	require.Contains(t, p.Detail, "SUCCESS")
	for _, id := range []string{"celery's", "nobody's"} {
		p = requireProblem(t, s.ask(t, post, "/v1/tasks/"+id+"/cancel", ""), http.StatusConflict, slugForeign)
		require.Equal(t, id, p.TaskID)
	}
	requireProblem(t, s.ask(t, post, "/v1/tasks/unknown/cancel", ""), http.StatusNotFound, slugTaskNotFound)
	requireProblem(t, s.ask(t, post, "/v1/tasks/waits/cancel?now=1", ""), http.StatusUnprocessableEntity, slugParameters)
	requireProblem(t, s.ask(t, get, "/v1/tasks/waits/cancel", ""), http.StatusMethodNotAllowed, slugMethod)

	s.store.err = messages.ErrStoreUnavailable
	requireProblem(t, s.ask(t, post, "/v1/tasks/waits/cancel", ""), http.StatusServiceUnavailable, "store-unavailable")
}
