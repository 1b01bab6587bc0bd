package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// queueView is a queue as the API shows it.
type queueView struct {
	State   string
	Drained bool
	Ready   *int
	Held    *int
}

func (s *stack) queue() queueView {
	s.t.Helper()
	var q queueView
	require.Equal(s.t, http.StatusOK, s.get("/v1/queues/default", &q))
	return q
}

// refused submits by name and expects that the queue takes nothing.
func (s *stack) refused() {
	s.t.Helper()
	status, body := s.do(http.MethodPost, "/v1/tasks/sleep_task", map[string]any{"duration": 1}, patient())
	require.Equal(s.t, http.StatusConflict, status, string(body))
	var p struct {
		Type      string
		Retryable bool
	}
	require.NoError(s.t, json.Unmarshal(body, &p))
	require.Equal(s.t, "urn:lovage:problem:queue-draining", p.Type)
	require.True(s.t, p.Retryable)
}

func TestAQueueIsDrainedToItsEndAndTakesNothingNew(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker("LOVAGE_CONCURRENCY=1")
	s.stranger("dead")
	accepted := []string{s.sleep(1, "?countdown=3"), s.sleep(3, ""), s.sleep(1, "")}
	s.await(accepted[1], "PROGRESS")
	s.steer("default", "drain")
	s.refused()
	for _, path := range []string{"/v1/queues/default/dead/dead/redrive", "/v1/tasks/dead/retry"} {
		status, body := s.do(http.MethodPost, path, nil, nil)
		require.Equal(t, http.StatusConflict, status, string(body))
		require.Contains(t, string(body), "queue-draining")
	}
	s.eventually(func() bool {
		q := s.queue()
		return q.Ready != nil && *q.Ready > 0
	}, "it is looked at")
	require.Equal(t, "draining", s.queue().State)
	require.False(t, s.queue().Drained)
	for _, id := range accepted {
		s.await(id, "SUCCESS")
	}
	s.eventually(func() bool { return s.queue().Drained }, "it is empty")
	q := s.queue()
	require.Zero(t, *q.Ready)
	require.Zero(t, *q.Held)
	s.steer("default", "resume")
	s.await(s.sleep(1, ""), "SUCCESS")
	status, body := s.do(http.MethodPost, "/v1/tasks/dead/retry", nil, nil)
	require.Equal(t, http.StatusAccepted, status, string(body))
}

func TestADrainHoldsForAllGatewaysAndSurvivesThem(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	first := s.url
	s.gateway()
	s.steer("default", "drain")
	s.refused()
	second := s.url
	s.url = first
	s.eventually(func() bool { return s.queue().State == "draining" }, "the other one has heard of it")
	s.refused()
	s.gateway()
	s.eventually(func() bool { return s.queue().State == "draining" }, "one that was started later knows it too")
	s.refused()
	status, body := s.do(http.MethodPost, "/v1/batches", []map[string]any{
		{"task": "sleep_task", "args": []int{1}},
		{"task": "sleep_task", "args": []int{1}, "options": map[string]any{"queue": "default"}},
	}, nil)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, 2, strings.Count(string(body), "queue-draining"), string(body))
	s.url = second
	s.steer("default", "resume")
	s.await(s.sleep(1, ""), "SUCCESS")
}
