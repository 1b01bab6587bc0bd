package api

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func (s *fakeStore) Log(_ context.Context, id string) ([]json.RawMessage, error) {
	return s.logs[id], s.err
}

func TestTheLogOfATaskIsRead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.put(&messages.Result{TaskID: "silent", State: messages.Success})
	s.store.logs = map[string][]json.RawMessage{"loud": {json.RawMessage(`{"message":"a<b"}`), json.RawMessage(`{}`)}}
	read := func(id, want string) {
		t.Helper()
		w := s.ask(t, get, "/v1/tasks/"+id+"/log", "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		require.JSONEq(t, want, w.Body.String())
	}
	read("silent", `{"task_id":"silent","lines":[]}`)
	read("loud", `{"task_id":"loud","lines":[{"message":"a<b"},{}]}`)
	requireProblem(t, s.ask(t, get, "/v1/tasks/none/log", ""), http.StatusNotFound, slugTaskNotFound)
	requireProblem(t, s.ask(t, get, "/v1/tasks/loud/log?x=1", ""), http.StatusUnprocessableEntity, slugParameters)
	s.store.err = messages.ErrStoreUnavailable
	requireProblem(t, s.ask(t, get, "/v1/tasks/loud/log", ""), http.StatusServiceUnavailable, "store-unavailable")
}
