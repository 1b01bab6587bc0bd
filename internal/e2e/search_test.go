package e2e_test

import (
	"context"
	"errors"
	"slices"
	"testing"

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
	later, err := c.Submit(ctx, "charge", chargeIn{UserID: 3, Card: "1"}, client.Options{Countdown: 3600e9})
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
