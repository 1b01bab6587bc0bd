package api

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestEnvelopeOfAKnownTaskKeepsItsArguments(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.ask(t, post, "/v1/tasks", `{"task":"sleep_task","args":[5],"kwargs":{"serial":9007199254740993},"options":{"task_id":"e1","countdown":2,"max_retries":null}}`)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	sent := s.publisher.last(t)
	require.Equal(t, "default", sent.queue)
	require.Equal(t, "2s", sent.delay.String())
	require.Equal(t, `[5]`, string(sent.task.Args))
	require.Equal(t, `{"serial":9007199254740993}`, string(sent.task.Kwargs))
	require.Equal(t, "e1", sent.task.ID)
	require.Nil(t, sent.task.MaxRetries)
}

func TestEnvelopeOfAnUnknownTaskNeedsAQueue(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := requireProblem(t, s.ask(t, post, "/v1/tasks", `{"task":"proj.add","args":[1,2]}`), http.StatusUnprocessableEntity, slugQueueNeeded)
	require.Equal(t, []string{"/options/queue"}, pointers(p))
	require.NotEmpty(t, p.Nearest)
	w := s.ask(t, post, "/v1/tasks", `{"task":"proj.add","args":[1,2],"options":{"queue":"celery","eta":"2030-01-01T00:00:00Z"}}`)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Equal(t, "celery", s.publisher.last(t).queue)
	require.Zero(t, s.publisher.last(t).delay)

	s = newServer(t)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks", `{"task":"proj.add","options":{"queue":"celery"}}`).Code)
	require.Zero(t, s.store.loads, "a named queue spares the look at the store")
}

func TestEnvelopeWithoutACatalogNeedsAQueue(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.announce(messages.ErrStoreUnavailable)
	requireProblem(t, s.ask(t, post, "/v1/tasks", `{"task":"sleep_task"}`), http.StatusServiceUnavailable, slugNoCatalog)
	w := s.ask(t, post, "/v1/tasks", `{"task":"sleep_task","options":{"queue":"default"}}`)
	require.Equal(t, http.StatusAccepted, w.Code, "submitting does not need Redis: %s", w.Body)
}

func TestBadEnvelopes(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][]string{
		`[]`:                                 {""},
		`null`:                               {""},
		`{}`:                                 {"/task"},
		`{"task":1}`:                         {"/task"},
		`{"task":""}`:                        {"/task"},
		`{"task":"sleep_task","args":{}}`:    {"/args"},
		`{"task":"sleep_task","kwargs":[]}`:  {"/kwargs"},
		`{"task":"sleep_task","options":[]}`: {"/options"},
		`{"args":1,"kwargs":1,"options":{"countdown":"1","queue":7,"nope":1,"max_retries":1.5},"foo":1,"a/b":2}`: {
			"/task", "/args", "/kwargs", "/options/countdown", "/options/queue", "/options/max_retries", "/options/nope", "/a~1b", "/foo",
		},
		`{"task":"sleep_task","options":{"expires":true}}`:                             {"/options/expires"},
		`{"task":"sleep_task","options":{"expires":0}}`:                                {"/options/expires"},
		`{"task":"sleep_task","options":{"countdown":1,"eta":"2030-01-01T00:00:00Z"}}`: {"/options/countdown"},
		`{"task":"sleep_task","options":{"time_limit":[1]}}`:                           {"/options/time_limit"},
		`{"task":"sleep_task"}`:                                                        {"/duration"},
		`{"task":"sleep_task","args":[1,"a",3]}`:                                       {"/args"},
		`{"task":"sleep_task","args":[1],"kwargs":{"duration":2}}`:                     {"/kwargs/duration"},
		`{"task":"sleep_task","args":[0,"zz"]}`:                                        {"/duration", "/label"},
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			p := requireProblem(t, s.ask(t, post, "/v1/tasks", body), http.StatusUnprocessableEntity, slugInput)
			require.Equal(t, want, pointers(p))
			require.Empty(t, s.publisher.sent)
		})
	}
}

func TestEnvelopeTakesNoQuery(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := requireProblem(t, s.ask(t, post, "/v1/tasks?queue=q", `{"task":"sleep_task","args":[1]}`), http.StatusUnprocessableEntity, slugInput)
	require.Equal(t, []string{"?queue"}, pointers(p))
}

func TestEnvelopeTakesEveryOption(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	body := `{"task":"sleep_task","args":[1],"options":{"task_id":"x","countdown":0.5,"expires":10,"queue":"q","max_retries":1,
		"time_limit":2,"soft_time_limit":1,"ignore_result":true,"retention":60}}`
	w := s.ask(t, post, "/v1/tasks", body)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	task := s.publisher.last(t).task
	require.True(t, task.IgnoreResult)
	require.Equal(t, time.Minute, task.Retention)
	require.Equal(t, 1, *task.MaxRetries)
	raw, err := json.Marshal(envelopeSchema(optionParams()))
	require.NoError(t, err)
	for _, o := range optionParams() {
		require.Contains(t, string(raw), `"`+o.name+`"`)
	}
}
