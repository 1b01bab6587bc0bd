package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

func (s *stack) client() *client.Client { return &client.Client{BaseURL: s.url} }

func requireSlug(t *testing.T, slug string, err error) {
	t.Helper()
	p, ok := errors.AsType[*client.Problem](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, slug, p.Slug())
}

func TestTheGoClientSubmitsAndSteersTasks(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	c, ctx := s.client(), t.Context()

	task, err := c.Submit(ctx, "sleep_task", map[string]any{"duration": 1}, client.Options{IdempotencyKey: `a "key"`, Wait: 30 * time.Second})
	require.NoError(t, err)
	require.Equal(t, client.Success, task.State)
	require.NotEmpty(t, task.Worker)
	require.False(t, task.DateDone.IsZero())
	again, err := c.Submit(ctx, "sleep_task", map[string]any{"duration": 1}, client.Options{IdempotencyKey: `a "key"`})
	require.NoError(t, err)
	require.Equal(t, task.TaskID, again.TaskID)

	_, err = c.Submit(ctx, "sleep_task", nil, client.Options{})
	requireSlug(t, "invalid-input", err)
	_, err = c.Submit(ctx, "sleep_tusk", nil, client.Options{})
	requireSlug(t, "unknown-task", err)

	// One that is followed shows its progress.
	task, err = c.SubmitEnvelope(ctx, client.Envelope{Task: "sleep_task", Args: []any{2}, Options: client.Options{TaskID: "an id/of ours"}})
	require.NoError(t, err)
	progressed := false
	for seen, err := range c.Follow(ctx, task.TaskID) {
		require.NoError(t, err)
		progressed = progressed || seen.Progress != nil && seen.Progress.Total == 2
		task = seen
	}
	require.True(t, progressed)
	require.Equal(t, client.Success, task.State)
	require.JSONEq(t, `["slept"]`, keysOf(t, task.Result))

	// One that waits for its time is cancelled, and then run all the same.
	task, err = c.Submit(ctx, "sleep_task", map[string]any{"duration": 1}, client.Options{Countdown: time.Hour, Timeout: 20 * time.Second})
	require.NoError(t, err)
	require.False(t, task.ETA.IsZero())
	task, err = c.Cancel(ctx, task.TaskID)
	require.NoError(t, err)
	require.Equal(t, client.Revoked, task.State)
	require.NoError(t, c.Retry(ctx, task.TaskID))
	task, err = c.Wait(ctx, task.TaskID)
	require.NoError(t, err)
	require.Equal(t, client.Success, task.State)
	require.Equal(t, 1, task.Run)

	seen := 0
	for f := (client.Filter{States: []client.State{client.Success}, Name: "sleep_task", Limit: 2}); ; {
		page, err := c.List(ctx, f)
		require.NoError(t, err)
		seen += len(page.Tasks)
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			break
		}
	}
	require.Equal(t, 3, seen)
}

func keysOf(t *testing.T, object json.RawMessage) string {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal(object, &fields))
	keys := []string{}
	for key := range fields {
		keys = append(keys, key)
	}
	out, err := json.Marshal(keys)
	require.NoError(t, err)
	return string(out)
}

func TestTheGoClientSubmitsBatches(t *testing.T) {
	t.Parallel()
	const many = 5000
	s := newStack(t)
	s.worker()
	require.NoError(t, s.client().Pause(t.Context(), "default"))
	items := func(yield func(client.Envelope) bool) {
		for i := range many {
			e := client.Envelope{Task: "sleep_task", Kwargs: map[string]int{"duration": 1}, Options: client.Options{TaskID: fmt.Sprint(i)}}
			if i == 7 {
				e.Task = "nobody.knows"
			}
			if !yield(e) {
				return
			}
		}
	}
	n := 0
	for a, err := range s.client().SubmitBatch(t.Context(), items) {
		require.NoError(t, err)
		require.Equal(t, n, a.Index)
		if n == 7 {
			require.Equal(t, "queue-needed", a.Problem.Slug())
		} else {
			require.Equal(t, http.StatusAccepted, a.Status, "%+v", a.Problem)
			require.Equal(t, fmt.Sprint(n), a.TaskID)
		}
		n++
	}
	require.Equal(t, many, n)
}

func TestTheGoClientSteersQueuesAndDeadLetters(t *testing.T) {
	t.Parallel()
	const many = 6
	s := newStack(t)
	s.worker()
	c, ctx := s.client(), t.Context()

	health, err := c.Ready(ctx)
	require.NoError(t, err)
	require.Equal(t, "up", health.RabbitMQ)
	require.WithinDuration(t, time.Now(), health.Time, patience)
	catalog, err := c.Catalog(ctx)
	require.NoError(t, err)
	require.Len(t, catalog, health.Tasks)
	workers, err := c.Workers(ctx)
	require.NoError(t, err)
	require.Len(t, workers, 1)

	for verb, want := range map[client.QueueState]func() error{
		client.QueuePaused:   func() error { return c.Pause(ctx, "default") },
		client.QueueDraining: func() error { return c.Drain(ctx, "default") },
	} {
		require.NoError(t, want())
		q, err := c.Queue(ctx, "default")
		require.NoError(t, err)
		require.Equal(t, verb, q.State)
	}
	require.NoError(t, c.Resume(ctx, "default"))
	queues, err := c.Queues(ctx)
	require.NoError(t, err)
	require.Len(t, queues, 1)
	require.Equal(t, client.QueueRunning, queues[0].State)

	for i := range many {
		s.stranger(fmt.Sprintf("s%d", i))
	}
	s.graves(many)
	page, err := c.Dead(ctx, "default", client.DeadFilter{Reason: "unknown-task"}, 2, "")
	require.NoError(t, err)
	require.Len(t, page.DeadLetters, 2)
	require.NotEmpty(t, page.NextCursor)
	groups, err := c.DeadGroups(ctx, "default", client.DeadFilter{})
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Equal(t, many, groups[0].Count)
	letter, err := c.DeadLetter(ctx, "default", "s1")
	require.NoError(t, err)
	require.Equal(t, "unknown-task", letter.Reason)
	require.Equal(t, groups[0].Group, letter.Group)
	require.JSONEq(t, `{}`, string(letter.Kwargs))

	require.NoError(t, c.RedriveOne(ctx, "default", "s0", map[string]int{"x": 1}))
	require.NoError(t, c.DiscardOne(ctx, "default", "s1"))
	s.graves(many - 1)
	counted, err := c.Count(ctx, "default", client.Bulk{All: true})
	require.NoError(t, err)
	require.Equal(t, client.Dealt{Counts: client.Counts{Matched: many - 1}, DryRun: true}, *counted)
	o, err := c.BeginRedrive(ctx, "default", client.Bulk{DeadFilter: client.DeadFilter{Group: groups[0].Group}, Rate: 100})
	require.NoError(t, err)
	for seen, err := range c.FollowOperation(ctx, "default", o.ID) {
		require.NoError(t, err)
		o = seen
	}
	require.Equal(t, client.OperationDone, o.State)
	require.Equal(t, many-1, o.Redriven)
	listed, err := c.Operations(ctx, "default")
	require.NoError(t, err)
	require.Len(t, listed, 1)
	require.Equal(t, o.ID, listed[0].ID)
	_, err = c.CancelOperation(ctx, "default", o.ID)
	requireSlug(t, "operation-ended", err)
	s.graves(many - 1)
	gone, err := c.Discard(ctx, "default", client.Bulk{All: true})
	require.NoError(t, err)
	require.Equal(t, many-1, gone.Discarded)
}
