package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// dead lists the dead letters of the default queue by their ids.
func (s *stack) dead() (ids []string, groups int) {
	s.t.Helper()
	var list struct {
		DeadLetters []struct {
			TaskID string `json:"task_id"`
			Run    int
		} `json:"dead_letters"`
	}
	require.Equal(s.t, http.StatusOK, s.get("/v1/queues/default/dead", &list))
	for _, l := range list.DeadLetters {
		ids = append(ids, fmt.Sprintf("%s:%d", l.TaskID, l.Run))
	}
	var grouped struct{ Groups []struct{ Count int } }
	require.Equal(s.t, http.StatusOK, s.get("/v1/queues/default/dead-groups", &grouped))
	return ids, len(grouped.Groups)
}

func (s *stack) stranger(id string) {
	s.t.Helper()
	status, body := s.do(http.MethodPost, "/v1/tasks", map[string]any{
		"task": "nobody.knows", "options": map[string]any{"queue": "default", "task_id": id},
	}, nil)
	require.Equal(s.t, http.StatusAccepted, status, "%s", body)
	s.await(id, "FAILURE")
}

// Dead letters are looked at, sent again and discarded, and what is sent again
// runs again.
func TestDeadLettersAreWorkedWith(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	require.Empty(t, func() []string { ids, _ := s.dead(); return ids }(), "nobody has declared the queue")
	s.worker()
	for i := range 3 {
		s.stranger(fmt.Sprintf("s%d", i))
	}
	s.eventually(func() bool {
		ids, groups := s.dead()
		return fmt.Sprint(ids, groups) == "[s0:0 s1:0 s2:0] 1"
	}, "three dead letters of one group")

	// It fails again, and is a dead letter of its next run.
	status, body := s.do(http.MethodPost, "/v1/queues/default/dead/s0/redrive", nil, nil)
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	s.eventually(func() bool { ids, _ := s.dead(); return fmt.Sprint(ids) == "[s1:0 s2:0 s0:1]" }, "the first is the last now")
	require.Equal(t, "FAILURE", s.task("s0").State)

	status, body = s.do(http.MethodPost, "/v1/queues/default/redrive?reason=unknown-task&limit=2", nil, nil)
	require.Equal(t, http.StatusOK, status, "%s", body)
	var done struct{ Redriven int }
	require.NoError(t, json.Unmarshal(body, &done))
	require.Equal(t, 2, done.Redriven)
	// What dies again while the others are being given back may come before them.
	s.eventually(func() bool {
		ids, _ := s.dead()
		slices.Sort(ids)
		return fmt.Sprint(ids) == "[s0:1 s1:1 s2:1]"
	}, "all three are dead again")

	status, _ = s.do(http.MethodDelete, "/v1/queues/default/dead/s1", nil, nil)
	require.Equal(t, http.StatusNoContent, status)
	status, _ = s.do(http.MethodPost, "/v1/queues/default/discard?all=true", nil, nil)
	require.Equal(t, http.StatusOK, status)
	ids, _ := s.dead()
	require.Empty(t, ids)
}

func TestARevokedTaskIsRunAgain(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	id := s.sleep(1, "?countdown=3600")
	require.Equal(t, http.StatusOK, s.cancel(id))
	status, body := s.do(http.MethodPost, "/v1/tasks/"+id+"/retry", nil, nil)
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	s.await(id, "SUCCESS")
	status, _ = s.do(http.MethodPost, "/v1/tasks/"+id+"/retry", nil, nil)
	require.Equal(t, http.StatusConflict, status)
}
