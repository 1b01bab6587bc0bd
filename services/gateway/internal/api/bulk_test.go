package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// redisTasks are tasks in a Redis, in the API's own terms.
type redisTasks struct{ *results.Store }

func (r redisTasks) List(ctx context.Context, f Filter, cursor string, limit int) (Page, error) {
	p, err := r.Store.List(ctx, results.Filter(f), cursor, limit)
	return Page(p), err
}

func (r redisTasks) Cancel(ctx context.Context, id string) (*messages.Result, Cancelled, error) {
	t, state, err := r.Store.Cancel(ctx, id)
	return t, Cancelled(state), err
}

func (r redisTasks) Restart(ctx context.Context, t *messages.Result, ignoreResult bool) (Restarted, error) {
	state, err := r.Store.Restart(ctx, t, ignoreResult)
	return Restarted(state), err
}

// crowd is a gateway over a Redis with tasks in it.
type crowd struct {
	*server
	tasks *results.Store
	redis redis.UniversalClient
}

// newCrowd works on operations when the test says run.
func newCrowd(t *testing.T) *crowd {
	t.Helper()
	url := devstack.Redis(t)
	client, err := results.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	c := &crowd{redis: client, tasks: results.New(results.Options{Client: client})}
	r := redisTasks{c.tasks}
	c.server = quick(newServer(t, operationsIn(t, url, time.Minute), func(o *Options) {
		o.Results, o.Canceller, o.Restarter, o.Deleter = r, r, r, r
		o.ReadTimeout = patience
	}))
	return c
}

// submit records tasks that wait.
func (c *crowd) submit(t *testing.T, name string, n int) (ids []string) {
	t.Helper()
	recorder := results.NewRecorder(c.tasks, n)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range n {
		id := fmt.Sprintf("%s-%04d", name, i)
		ids = append(ids, id)
		require.True(t, recorder.Record(&messages.Result{
			TaskID: id, State: messages.Pending, Name: name, Queue: "default", Kwargs: json.RawMessage(`{"duration":1}`),
			DateCreated: time.Now().Add(-time.Minute).UTC(),
		}))
	}
	require.NoError(t, recorder.Run(ctx)) // until all are written
	require.Zero(t, recorder.Dropped())
	return ids
}

// finish ends tasks in a state, with a dead letter where there is a reason.
func (c *crowd) finish(t *testing.T, state messages.State, reason messages.Reason, ids ...string) {
	t.Helper()
	for _, id := range ids {
		r, err := c.tasks.Get(t.Context(), id)
		require.NoError(t, err)
		a := messages.Attempt{ID: id, Run: r.Run}
		_, err = c.tasks.Claim(t.Context(), a, "token", nil)
		require.NoError(t, err)
		r.State, r.Reason, r.DateDone = state, reason, time.Now()
		if state == messages.Failure {
			r.Error = &messages.TaskError{Type: "ValueError", Message: "bad " + id}
		}
		require.NoError(t, c.tasks.Settle(t.Context(), results.Settlement{Attempt: a, Token: "token", Result: r}))
		if reason == "" {
			continue
		}
		m, err := messages.Encode(&messages.Task{ID: id, Name: r.Name, Queue: r.Queue, Kwargs: r.Kwargs, Run: r.Run, Created: r.DateCreated, MaxRetries: new(7)})
		require.NoError(t, err)
		messages.EncodeDeadLetter(m, messages.DeadLetter{Queue: r.Queue, Reason: reason})
		c.graves.letters = append(c.graves.letters, m)
	}
}

func (c *crowd) start(t *testing.T, target string) (at string) {
	t.Helper()
	w := c.ask(t, post, target, "")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	c.requireSchema(t, "TaskOperation", w)
	require.Equal(t, "/v1/operations/"+decode(t, w)["id"].(string), w.Header().Get("Location"))
	return w.Header().Get("Location")
}

func (c *crowd) at(t *testing.T, at string) (o taskOperation) {
	t.Helper()
	w := c.ask(t, get, at, "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &o))
	return o
}

func (c *crowd) ends(t *testing.T, at string) (o taskOperation) {
	t.Helper()
	require.Eventually(t, func() bool {
		o = c.at(t, at)
		return o.Ended != nil
	}, patience, 5*time.Millisecond, "%+v", o)
	return o
}

// states counts the tasks by their states.
func (c *crowd) states(t *testing.T) map[messages.State]int {
	t.Helper()
	count := map[messages.State]int{}
	for cursor := ""; ; {
		p, err := c.tasks.List(t.Context(), results.Filter{}, cursor, 500)
		require.NoError(t, err)
		for _, r := range p.Results {
			count[r.State]++
		}
		if cursor = p.Next; cursor == "" {
			return count
		}
	}
}

func TestTasksAreCancelledByTheHundred(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.run(t)
	ids := c.submit(t, "old", 700)
	c.submit(t, "other", 3)
	c.finish(t, messages.Success, "", ids[0])
	_, err := c.tasks.Claim(t.Context(), messages.Attempt{ID: ids[1]}, "worker", nil)
	require.NoError(t, err)

	w := c.ask(t, post, "/v1/bulk/cancel?name=old&dry_run=true", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.JSONEq(t, `{"matched":699,"more":false,"dry_run":true}`, w.Body.String())
	w = c.ask(t, post, "/v1/bulk/cancel?name=old&dry_run=true&limit=10", "")
	require.JSONEq(t, `{"matched":10,"more":true,"dry_run":true}`, w.Body.String())
	require.Equal(t, map[messages.State]int{messages.Pending: 702, messages.Success: 1}, c.states(t), "nothing was done")

	o := c.ends(t, c.start(t, "/v1/bulk/cancel?name=old"))
	require.Equal(t, stateDone, o.State)
	require.Equal(t, TaskCounts{Matched: 699, Cancelled: 698, Stopping: 1}, o.TaskCounts)
	require.Equal(t, map[messages.State]int{messages.Pending: 4, messages.Success: 1, messages.Revoked: 698}, c.states(t))

	list := decode(t, c.ask(t, get, "/v1/operations", ""))["operations"].([]any)
	require.Len(t, list, 1)
	requireProblem(t, c.ask(t, get, "/v1/operations/nobody", ""), http.StatusNotFound, slugNoOperation)
	requireProblem(t, c.ask(t, post, "/v1/operations/"+o.ID+"/cancel", ""), http.StatusConflict, slugOperationEnded)
}

func TestTasksAreRunAgainFromTheirDeadLettersAndTheirRecords(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.run(t)
	ids := c.submit(t, "pay", 30)
	c.finish(t, messages.Failure, messages.ReasonPermanent, ids[:10]...)
	c.finish(t, messages.Failure, "", ids[10:20]...)
	c.finish(t, messages.Success, "", ids[20])
	_, _, err := c.tasks.Cancel(t.Context(), ids[21])
	require.NoError(t, err)

	o := c.ends(t, c.start(t, "/v1/bulk/retry?error=BAD+pay"))
	require.Equal(t, stateDone, o.State, o.Error)
	require.Equal(t, TaskCounts{Matched: 20, Retried: 20}, o.TaskCounts)
	require.Equal(t, map[messages.State]int{messages.Pending: 28, messages.Success: 1, messages.Revoked: 1}, c.states(t))
	require.Empty(t, c.graves.letters)
	require.Len(t, c.publisher.sent, 20)
	withLimit := 0
	for _, sent := range c.publisher.sent {
		require.Equal(t, 1, sent.task.Run)
		require.JSONEq(t, `{"duration":1}`, string(sent.task.Kwargs))
		if sent.task.MaxRetries != nil {
			withLimit++
		}
	}
	require.Equal(t, 10, withLimit, "a dead letter knows more than the record")

	o = c.ends(t, c.start(t, "/v1/bulk/retry?all=true&state=revoked"))
	require.Equal(t, TaskCounts{Matched: 1, Retried: 1}, o.TaskCounts)
}

func TestTasksAreDeleted(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.run(t)
	ids := c.submit(t, "done", 20)
	c.finish(t, messages.Success, "", ids[:15]...)
	o := c.ends(t, c.start(t, "/v1/bulk/delete?queue=default&limit=12&rate=10000"))
	require.Equal(t, TaskCounts{Matched: 12, Deleted: 12}, o.TaskCounts)
	require.True(t, o.More)
	require.Equal(t, 12, *o.Filter.Limit)
	require.Equal(t, map[messages.State]int{messages.Pending: 5, messages.Success: 3}, c.states(t))

	requireProblem(t, c.ask(t, http.MethodDelete, "/v1/tasks/"+ids[19], ""), http.StatusConflict, slugNotEnded)
	c.finish(t, messages.Failure, "", ids[19])
	require.Equal(t, http.StatusNoContent, c.ask(t, http.MethodDelete, "/v1/tasks/"+ids[19], "").Code)
	requireProblem(t, c.ask(t, http.MethodDelete, "/v1/tasks/"+ids[19], ""), http.StatusNotFound, slugTaskNotFound)
	requireProblem(t, c.ask(t, http.MethodDelete, "/v1/tasks/"+strings.Repeat("x", 256), ""), http.StatusNotFound, slugTaskNotFound)
	requireProblem(t, c.ask(t, http.MethodDelete, "/v1/tasks/x?force=1", ""), http.StatusUnprocessableEntity, slugParameters)
}

func TestAnOperationOnTasksKeepsItsRateAndIsCancelled(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.run(t)
	c.submit(t, "slow", 50)
	at := c.start(t, "/v1/bulk/cancel?name=slow&rate=10")
	p := requireProblem(t, c.ask(t, post, "/v1/bulk/cancel?name=other", ""), http.StatusConflict, slugOperationOpen)
	require.True(t, strings.HasSuffix(at, p.OperationID))
	require.Eventually(t, func() bool { return c.at(t, at).Cancelled >= 2 }, patience, 5*time.Millisecond)
	w := c.ask(t, post, at+"/cancel", "")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Equal(t, true, decode(t, w)["cancelling"])
	o := c.ends(t, at)
	require.Equal(t, stateCancelled, o.State)
	require.Less(t, o.Cancelled, 50)
	require.Equal(t, o.Cancelled, c.states(t)[messages.Revoked], "what was done is done")
	require.Equal(t, http.StatusOK, c.ask(t, post, at+"/cancel", "").Code)
}

// A gateway that died has begun runs and not sent their messages.
func TestAnotherGatewayFinishesTheRunsThatWereBegun(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	ids := c.submit(t, "pay", 3)
	c.finish(t, messages.Failure, "", ids...)
	at := c.startAndDie(t, "/v1/bulk/retry?name=pay")
	id := strings.TrimPrefix(at, "/v1/operations/")
	stored, err := c.opts.Operations.Open(t.Context())
	require.NoError(t, err)
	require.Len(t, stored, 1)
	w := &work{}
	w.op, err = stored[0].read()
	require.NoError(t, err)
	w.op.Bulk.Begun = map[string]int{ids[0]: 1, ids[1]: 1, "gone": 1}
	r, err := c.tasks.Get(t.Context(), ids[0])
	require.NoError(t, err)
	r.State, r.Run, r.Error = messages.Pending, 1, nil
	_, err = c.tasks.Restart(t.Context(), r, false)
	require.NoError(t, err)
	record, err := json.Marshal(w.op)
	require.NoError(t, err)
	require.NoError(t, c.redis.HSet(t.Context(), "lovage:{operations}:op:"+id, "record", record).Err())
	require.NoError(t, c.redis.Del(t.Context(), "lovage:{operations}:lease:"+id).Err())

	c.run(t)
	o := c.ends(t, at)
	require.Equal(t, stateDone, o.State)
	require.Equal(t, TaskCounts{Matched: 3, Retried: 3}, o.TaskCounts)
	require.Len(t, c.publisher.sent, 3)
}

// startAndDie begins an operation as a gateway that dies at once.
func (c *crowd) startAndDie(t *testing.T, target string) (at string) {
	t.Helper()
	c.Drain()
	at = c.start(t, target)
	c.server = c.sibling(t)
	return at
}

func TestOperationsOnTasksThatMakeNoSense(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for target, want := range map[string]string{
		"cancel":                        "say which ones are meant",
		"cancel?state=PENDING":          "say which ones are meant",
		"cancel?all=true&state=SUCCESS": "tasks in state SUCCESS cannot be meant here",
		"retry?all=true&state=SUCCESS":  "only those in [FAILURE REVOKED]",
		"delete?all=true&state=STARTED": "tasks in state STARTED cannot be meant here",
		"delete?all=true&limit=0":       "must be a whole number",
		"delete?all=true&rate=10001":    "from 1 to 10000",
		"retry?all=yes":                 "must be true or false",
		"retry?name=x&cursor=abc":       "is not a parameter of this call",
		"retry?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z": "must be after since",
	} {
		p := requireProblem(t, s.ask(t, post, "/v1/bulk/"+target, ""), http.StatusUnprocessableEntity, slugParameters)
		require.Len(t, p.Errors, 1, target)
		require.Contains(t, p.Errors[0].Detail, want, target)
	}
	requireProblem(t, s.ask(t, post, "/v1/bulk/forget?all=true", ""), http.StatusNotFound, slugNotFound)
}
