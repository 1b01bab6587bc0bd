package e2e_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/client"
)

func TestAPurgeRevokesWhatWaitsAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newStack(t, "LOVAGE_MANAGEMENT_URL="+devstack.SharedBroker(t).Management)
	w := s.worker("LOVAGE_CONCURRENCY=1")
	running, later := s.sleep(60, ""), s.sleep(1, "?countdown=3600")
	s.await(running, "PROGRESS")
	s.told(new(client.Queue), "queues", "pause", "default")
	w.await("paused queues changed")
	const many = 700
	ids := make([]string, many)
	lines := make([]map[string]any, many)
	for i := range ids {
		ids[i] = fmt.Sprint("p", i)
		lines[i] = map[string]any{"task": "sleep_task", "kwargs": map[string]any{"duration": 1}, "options": map[string]any{"task_id": ids[i]}}
	}
	status, body := s.do(http.MethodPost, "/v1/batches", lines, patient())
	require.Equal(t, http.StatusOK, status, "%s", body)
	require.Equal(t, "PENDING", s.task(ids[0]).State)

	require.Equal(t, 2, s.lovage("queues", "purge", "default").code, "nobody is there to say yes")
	require.Equal(t, said{out: fmt.Sprintln(many, "tasks wait")}, s.lovage("queues", "purge", "default", "--dry-run"))
	var got client.Purged
	s.told(&got, "queues", "purge", "default", "--yes", "--limit", "3")
	require.Equal(t, client.Purged{Name: "default", Ready: many, Purged: 3}, got)
	require.Equal(t, 3, s.inState("REVOKED", ids))
	s.told(&got, "queues", "purge", "default", "--yes")
	require.Equal(t, client.Purged{Name: "default", Ready: many - 3, Purged: many - 3}, got)
	for _, id := range ids {
		v := s.task(id)
		require.Equal(t, "REVOKED", v.State, id)
		require.Equal(t, "purged", v.Error.Message)
	}
	require.Equal(t, "PROGRESS", s.task(running).State)
	require.Equal(t, "PENDING", s.task(later).State)
	require.Equal(t, 4, s.lovage("queues", "purge", "unheard-of", "--yes").code)

	s.told(new(client.Queue), "queues", "resume", "default")
	require.Zero(t, s.lovage("cancel", running).code)
	require.Zero(t, s.lovage("retry", ids[0]).code)
	s.await(ids[0], "SUCCESS")
	var list struct {
		Queues  []client.Queue
		Delayed *int
	}
	s.eventually(func() bool {
		return s.get("/v1/queues", &list) == http.StatusOK && list.Delayed != nil && *list.Delayed == 1 && list.Queues[0].RateOut != nil
	}, "the management API tells what is delayed")
}

// inState counts the tasks in a state.
func (s *stack) inState(state string, ids []string) (n int) {
	s.t.Helper()
	for _, id := range ids {
		if s.task(id).State == state {
			n++
		}
	}
	return n
}
