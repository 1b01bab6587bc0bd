package api

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// states are those of the queues in the list.
func (s *server) queueStates(t *testing.T) map[string]string {
	t.Helper()
	w := s.ask(t, get, "/v1/queues", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	states := map[string]string{}
	for _, q := range decode(t, w)["queues"].([]any) {
		v := q.(map[string]any)
		states[v["name"].(string)] = v["state"].(string)
		require.Equal(t, v["state"] == "paused", v["paused"])
	}
	return states
}

// change asks for a change of state and expects it.
func (s *server) change(t *testing.T, queue, verb, state string) {
	t.Helper()
	w := s.ask(t, post, "/v1/queues/"+queue+"/"+verb, "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.Equal(t, map[string]any{"name": queue, "state": state, "paused": state == "paused"}, decode(t, w))
}

func TestQueuesArePausedDrainedAndResumed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.catalog.refresh(t.Context(), 0)
	require.Equal(t, map[string]string{"default": "running", "mail": "running"}, s.queueStates(t))
	s.change(t, "default", "pause", "paused")
	s.change(t, "unheard-of", "pause", "paused")
	s.change(t, "mail", "drain", "draining")
	require.Equal(t, []string{"mail"}, s.depths.watched)
	require.Equal(t, map[string]string{"default": "paused", "mail": "draining", "unheard-of": "paused"}, s.queueStates(t))
	s.change(t, "default", "resume", "running")
	s.change(t, "mail", "pause", "paused")
	require.Equal(t, map[string]string{"default": "running", "mail": "paused", "unheard-of": "paused"}, s.queueStates(t))
	require.Empty(t, s.depths.watched)

	for _, verb := range []string{"pause", "drain"} {
		requireProblem(t, s.ask(t, post, "/v1/queues/celery/"+verb, ""), http.StatusConflict, slugForeign)
		requireProblem(t, s.ask(t, post, "/v1/queues/lovage.x/"+verb, ""), http.StatusNotFound, slugNotFound)
	}
	s.store.err = messages.ErrStoreUnavailable
	requireProblem(t, s.ask(t, post, "/v1/queues/mail/drain", ""), http.StatusServiceUnavailable, "store-unavailable")
	require.Equal(t, "paused", s.queueStates(t)["mail"], "it is as it was")
}

func TestAQueueThatIsDrainingTakesNothingNew(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.change(t, "default", "drain", "draining")
	for name, ask := range map[string][2]string{
		"by name":    {sleepTask, `{"duration":1}`},
		"later":      {sleepTask + "?countdown=3600", `{"duration":1}`},
		"by queue":   {"/v1/tasks", `{"task":"nobody.knows","options":{"queue":"default"}}`},
		"named then": {"/v1/tasks/send_mail?queue=default", `{}`},
	} {
		w := s.ask(t, post, ask[0], ask[1])
		require.Equal(t, "60", w.Header().Get("Retry-After"), name)
		p := requireProblem(t, w, http.StatusConflict, slugDraining)
		require.True(t, p.Retryable)
		require.NotEmpty(t, p.TaskID)
		require.Contains(t, p.Detail, `queue "default" is being drained`)
		require.Contains(t, p.Detail, "POST /v1/queues/default/resume")
	}
	require.Empty(t, s.publisher.sent)
	require.Empty(t, s.store.recorded)

	w := s.ask(t, post, routeBatch, `[{"task":"sleep_task","args":[1]},{"task":"send_mail"}]`)
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), `{"index":0,"status":409,"problem":{"type":"urn:lovage:problem:queue-draining"`)
	require.Contains(t, w.Body.String(), `{"index":1,"status":202`)
	require.Equal(t, "mail", s.publisher.last(t).queue)

	s.change(t, "default", "resume", "running")
	require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask, `{"duration":1}`).Code)
}

func TestAKeyIsGivenBackWhenItsQueueIsDraining(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.change(t, "default", "drain", "draining")
	requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed), http.StatusConflict, slugDraining)
	require.Empty(t, s.keys.state, "the key is free")
	s.change(t, "default", "resume", "running")
	require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask, `{"duration":1}`, keyed).Code)
}

func TestNothingIsSentAgainIntoAQueueThatIsDraining(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, id := range []string{"t0", "t1"} {
		s.bury(t, id, "sleep_task", "Panic: boom", messages.ReasonPermanent)
		s.store.put(&messages.Result{TaskID: id, State: messages.Failure, Name: "sleep_task", Queue: "default"})
	}
	s.change(t, "default", "drain", "draining")
	for _, path := range []string{"/v1/queues/default/redrive?all=true", "/v1/queues/default/dead/t0/redrive", "/v1/tasks/t0/retry"} {
		requireProblem(t, s.ask(t, post, path, ""), http.StatusConflict, slugDraining)
	}
	require.Len(t, s.graves.letters, 2, "they stay")
	require.Equal(t, messages.Failure, s.store.records["t0"].State)
	require.Empty(t, s.publisher.sent)
	require.Equal(t, http.StatusOK, s.ask(t, post, "/v1/queues/default/discard?all=true", "").Code)
}

func TestWhatWasLastHeardOfAQueueHolds(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.states.refresh(t.Context())
	require.Equal(t, messages.QueueRunning, s.states.of("default"))
	require.NoError(t, s.store.SetQueueState(t.Context(), "default", messages.QueueDraining), "by another gateway")
	s.states.refresh(t.Context())
	require.Equal(t, messages.QueueDraining, s.states.of("default"))
	require.Equal(t, []string{"default"}, s.depths.watched)
	s.store.err = messages.ErrStoreUnavailable
	s.states.refresh(t.Context())
	requireProblem(t, s.ask(t, post, "/v1/tasks", `{"task":"t","options":{"queue":"default"}}`), http.StatusConflict, slugDraining)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks", `{"task":"t","options":{"queue":"mail"}}`).Code)
	s.store.err = nil
	require.NoError(t, s.store.SetQueueState(t.Context(), "default", messages.QueueRunning))
	s.states.refresh(t.Context())
	require.Equal(t, messages.QueueRunning, s.states.of("default"))
}

func TestAQueueIsDrainedWhenNothingOfItIsLeft(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.catalog.refresh(t.Context(), 0)
	read := func() map[string]any {
		w := s.ask(t, get, "/v1/queues/mail", "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		return decode(t, w)
	}
	s.depths.empty = drainedAfter
	require.Equal(t, false, read()["drained"], "it is running")
	require.Nil(t, read()["ready"], "nobody looks at it")
	s.change(t, "mail", "drain", "draining")
	q := read()
	require.Equal(t, true, q["drained"])
	require.EqualValues(t, "0", q["ready"])
	require.EqualValues(t, "0", q["held"])

	s.store.workers = []messages.WorkerInfo{
		{Queues: []string{"mail", "urgent"}, Held: map[string]int{"mail": 1, "urgent": 2}},
		{Queues: []string{"mail"}, Held: map[string]int{"mail": 3}},
	}
	q = read()
	require.Equal(t, false, q["drained"])
	require.EqualValues(t, "4", q["held"])
	require.EqualValues(t, "2", q["alive"])
	require.Equal(t, "running", s.queueStates(t)["urgent"], "workers know more queues than the catalog")
	s.store.workers = nil
	for _, d := range []fakeDepths{{ready: 1}, {empty: drainedAfter - time.Second, watched: s.depths.watched}, {empty: drainedAfter}} {
		*s.depths = d
		require.Equal(t, false, read()["drained"], "%+v", d)
	}
	s.depths.empty, s.depths.watched = drainedAfter, []string{"mail"}
	require.Equal(t, true, read()["drained"])
	s.store.err = messages.ErrStoreUnavailable
	q = read()
	require.Equal(t, false, q["drained"], "nobody knows what workers have")
	require.Nil(t, q["held"])
	requireProblem(t, s.ask(t, get, "/v1/queues/unheard-of", ""), http.StatusNotFound, slugNotFound)
}
