package e2e_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

func TestTheStreamOfAllTasksIsTakenUpAtAnotherGateway(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()

	// changes reads those of one task up to a state, and returns the place
	// behind.
	changes := func(c *client.Client, after, id string, until client.State) (states []client.State, last string) {
		for e, err := range c.Events(ctx, client.EventFilter{Queue: "default", After: after}) {
			require.NoError(t, err)
			require.False(t, e.Gap)
			if e.TaskID == id {
				states = append(states, e.State)
			}
			if last = e.ID; e.TaskID == id && e.State == until {
				return states, last
			}
		}
		return states, last
	}
	dying := s.gateway()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/events", http.NoBody)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req) // from here on nothing is missed
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	id, last := s.sleep(1, ""), ""
	for lines := bufio.NewScanner(res.Body); lines.Scan() && !strings.Contains(lines.Text(), id); {
		if place, found := strings.CutPrefix(lines.Text(), "id: "); found {
			last = place
		}
	}
	require.NotEmpty(t, last)

	dying.signal(syscall.SIGKILL)
	s.gateway()
	second := &client.Client{BaseURL: s.url}
	states, last := changes(second, last, id, client.Success)
	require.Equal(t, client.Success, states[len(states)-1])

	next := s.sleep(1, "")
	states, _ = changes(second, last, next, client.Success)
	require.Subset(t, states, []client.State{client.Started, client.Success})
}

func TestATaskIsWatchedFromSubmissionToResult(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	id := s.sleep(2, "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last *client.Task
	seen := map[client.State]int{}
	for task, err := range (&client.Client{BaseURL: s.url}).Watch(ctx, id) {
		require.NoError(t, err)
		seen[task.State]++
		last = task
	}
	require.Equal(t, client.Success, last.State)
	require.NotEmpty(t, last.Result)
	require.Positive(t, seen[client.InWork], "its progress was seen: %v", seen)
}
