package e2e_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
	"github.com/lovage-mq/lovage/pkg/worker"
)

type chargeIn struct {
	UserID int    `json:"user_id"`
	Card   string `json:"card,omitempty"`
}

// charger is a worker whose task fails without a card.
func (s *stack) charger() *worker.Worker {
	w := worker.New(worker.Options{AMQPURL: s.amqp, RedisURL: s.redis, Concurrency: 5})
	worker.Handle(w, "charge", func(_ context.Context, in chargeIn) (string, error) {
		if in.Card == "" {
			return "", worker.Permanent(errors.New("user has no card"))
		}
		return in.Card, nil
	}, worker.WithIndex("user_id"))
	return w
}

func TestTasksAreFoundByWhatIsKnownOfThem(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.inProcess(s.charger())
	c, ctx := s.client(), t.Context()
	ids := map[int]string{}
	for user := range 5 {
		in := chargeIn{UserID: user, Card: "1234"}
		if user == 3 {
			in.Card = ""
		}
		task, err := c.Submit(ctx, "charge", in, client.Options{})
		require.NoError(t, err)
		ids[user] = task.TaskID
		_, err = c.Wait(ctx, task.TaskID)
		require.NoError(t, err)
	}
	later, err := c.Submit(ctx, "charge", chargeIn{UserID: 3, Card: "1"}, client.Options{Countdown: time.Hour})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		filter client.Filter
		want   []string
	}{
		"state":           {client.Filter{States: []client.State{client.Failure}}, []string{ids[3]}},
		"waiting":         {client.Filter{States: []client.State{client.Pending}}, []string{later.TaskID}},
		"error":           {client.Filter{Error: "No Card"}, []string{ids[3]}},
		"id":              {client.Filter{ID: ids[1][:30]}, []string{ids[1]}},
		"input":           {client.Filter{Input: map[string]string{"user_id": "3"}}, []string{later.TaskID, ids[3]}},
		"input and state": {client.Filter{Input: map[string]string{"user_id": "3"}, States: []client.State{client.Failure}}, []string{ids[3]}},
		"all":             {client.Filter{Name: "charge", Queue: "default"}, []string{later.TaskID, ids[4], ids[3], ids[2], ids[1], ids[0]}},
	} {
		s.eventually(func() bool { // the records of submissions come behind them
			page, err := c.List(ctx, test.filter)
			require.NoError(t, err)
			var found []string
			for _, task := range page.Tasks {
				found = append(found, task.TaskID)
			}
			return slices.Equal(test.want, found)
		}, name)
	}

	catalog, err := c.Catalog(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"user_id"}, catalog[0].Indexed)
	_, err = c.List(ctx, client.Filter{Input: map[string]string{"card": "1234"}})
	requireSlug(t, "invalid-parameters", err)
	var tasks []client.Task
	s.told(&tasks, "list", "--input", "user_id=3", "--error", "no card", "--prefix", ids[3][:8])
	require.Len(t, tasks, 1)
	require.Equal(t, ids[3], tasks[0].TaskID)
}

// Failed tasks are found, run again and deleted, by the command line and by the
// client.
func TestManyTasksAreDealtWithAtATime(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.inProcess(s.charger())
	c, ctx := s.client(), t.Context()
	for user := range 20 {
		task, err := c.Submit(ctx, "charge", chargeIn{UserID: user % 2}, client.Options{})
		require.NoError(t, err)
		_, err = c.Wait(ctx, task.TaskID)
		require.NoError(t, err)
	}
	for range 3 {
		_, err := c.Submit(ctx, "charge", chargeIn{UserID: 1}, client.Options{Countdown: time.Hour})
		require.NoError(t, err)
	}
	count := func(states ...client.State) int {
		page, err := c.List(ctx, client.Filter{States: states})
		require.NoError(t, err)
		return len(page.Tasks)
	}
	s.eventually(func() bool { return count(client.Failure) == 20 && count(client.Pending) == 3 }, "all are known")

	got := s.lovage("retry", "--error", "no card", "--input", "user_id=1", "--dry-run")
	require.Equal(t, "10 tasks are meant\n", got.out, got.err)
	got = s.lovage("retry", "--error", "no card", "--input", "user_id=1")
	require.Equal(t, said{out: "retry done: 10 sent again\n"}, got)
	s.eventually(func() bool { ids, _ := s.dead(); return count(client.Failure) == 20 && len(ids) == 20 }, "they have failed again")
	again, err := c.List(ctx, client.Filter{Input: map[string]string{"user_id": "1"}, States: []client.State{client.Failure}})
	require.NoError(t, err)
	require.Equal(t, 1, again.Tasks[0].Run)

	var o client.TaskOperation
	s.told(&o, "cancel", "--queue", "default", "--detach")
	for next, err := range c.FollowTaskOperation(ctx, o.ID) {
		require.NoError(t, err)
		o = *next
	}
	require.Equal(t, client.TaskCounts{Matched: 3, Cancelled: 3}, o.TaskCounts)
	require.Equal(t, 2, s.lovage("delete", "--state", "FAILURE", "--all").code, "nobody was asked")
	got = s.lovage("delete", "--state", "FAILURE", "--all", "--yes", "--limit", "15")
	require.Equal(t, "delete done: 15 deleted; there are more\n", got.out, got.err)
	require.Equal(t, 5, count(client.Failure))
	require.Equal(t, 3, count(client.Revoked))
	require.Equal(t, 2, s.lovage("cancel").code)
	require.Equal(t, 2, s.lovage("cancel", "some-id", "--all").code)
	got = s.lovage("operations")
	require.Contains(t, got.out, "3 cancelled", got.err)
	got = s.lovage("operations", "stop", o.ID)
	require.Equal(t, 4, got.code, "it has ended")
}
