package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// fakeCallbacks keeps promises in memory.
type fakeCallbacks struct {
	mu       sync.Mutex
	promised map[string]string
	due      time.Time
	err      error
}

func (c *fakeCallbacks) Check(url string) error {
	if url != "https://hooks.example.com/x?a=b" {
		return errors.New("url: the host is not allowed")
	}
	return nil
}

func (c *fakeCallbacks) Promise(_ context.Context, id, url string, due time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false, c.err
	}
	c.due = due
	_, there := c.promised[id]
	if !there {
		c.promised[id] = url
	}
	return !there, nil
}

func (c *fakeCallbacks) Forget(_ context.Context, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.promised, id)
}

func (c *fakeCallbacks) Get(_ context.Context, id string) (*Callback, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.promised[id]; !there || c.err != nil {
		return nil, errors.Join(messages.ErrNotFound, c.err)
	}
	return &Callback{TaskID: id, State: CallbackWaiting, Latest: []CallbackAttempt{}}, nil
}

func newCallingServer(t *testing.T) (*server, *fakeCallbacks) {
	t.Helper()
	c := &fakeCallbacks{promised: map[string]string{}}
	return newServer(t, func(o *Options) { o.Callbacks = c }), c
}

const (
	hook      = "https://hooks.example.com/x?a=b"
	hookQuery = "callback_url=https%3A%2F%2Fhooks.example.com%2Fx%3Fa%3Db"
)

func TestACallbackIsPromisedBeforeTheTaskIsSent(t *testing.T) {
	t.Parallel()
	s, c := newCallingServer(t)
	s.publisher.after = func(m *messages.Message) {
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Equal(t, hook, c.promised[m.MessageID])
	}
	for target, body := range map[string]string{
		"/v1/tasks/sleep_task?" + hookQuery: `{"duration": 2}`,
		"/v1/tasks":                         `{"task": "sleep_task", "kwargs": {"duration": 2}, "options": {"callback_url": "` + hook + `"}}`,
	} {
		require.Equal(t, http.StatusAccepted, s.ask(t, post, target, body).Code, target)
	}
	require.Len(t, c.promised, 2)
	w := s.ask(t, post, "/v1/batches", `[{"task": "sleep_task", "kwargs": {"duration": 2}, "options": {"callback_url": "`+hook+`", "countdown": 60}}]`)
	require.Contains(t, w.Body.String(), `"status":202`)
	require.Len(t, c.promised, 3)
	require.WithinDuration(t, time.Now().Add(time.Minute), c.due, 30*time.Second)
	s.publisher.after = nil
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/sleep_task", `{"duration": 2}`).Code)
	require.Len(t, c.promised, 3, "nobody else is called")
}

func TestAPromiseThatCannotBeKeptIsNotGiven(t *testing.T) {
	t.Parallel()
	s, c := newCallingServer(t)
	c.err = messages.ErrStoreUnavailable
	p := requireProblem(t, s.ask(t, post, "/v1/tasks/sleep_task?"+hookQuery, `{"duration": 2}`), http.StatusServiceUnavailable, "store-unavailable")
	require.Contains(t, p.Detail, "nothing was sent")
	require.True(t, p.Retryable)
	require.Empty(t, s.publisher.sent)
	require.Contains(t, s.ask(t, post, "/v1/batches", `[{"task": "sleep_task", "kwargs": {"duration": 2}, "options": {"callback_url": "`+hook+`"}}]`).Body.String(), "store-unavailable")
	require.Empty(t, s.publisher.sent)
}

func TestThePromiseIsTakenBackOnlyWhenNothingWasSent(t *testing.T) {
	t.Parallel()
	for err, kept := range map[error]int{messages.ErrBrokerUnavailable: 0, messages.ErrNotSent: 0, messages.ErrUnconfirmed: 1} {
		s, c := newCallingServer(t)
		s.publisher.err = err
		s.ask(t, post, "/v1/tasks/sleep_task?"+hookQuery, `{"duration": 2}`)
		require.Len(t, c.promised, kept, err.Error())
		c.promised["mine"] = hook
		s.ask(t, post, "/v1/tasks/sleep_task?task_id=mine&"+hookQuery, `{"duration": 2}`)
		require.Contains(t, c.promised, "mine", "that of an earlier try stands")
	}
}

func TestACallbackThatIsNotAllowedIsRefused(t *testing.T) {
	t.Parallel()
	s, c := newCallingServer(t)
	for _, query := range []string{"callback_url=https%3A%2F%2Felsewhere%2F", "callback_url=", "ignore_result=true&" + hookQuery} {
		p := requireProblem(t, s.ask(t, post, "/v1/tasks/sleep_task?"+query, `{"duration": 2}`), http.StatusUnprocessableEntity, slugParameters)
		require.Equal(t, "callback_url", p.Errors[0].Parameter)
		require.NotContains(t, p.Errors[0].Detail, "url: ")
	}
	p := requireProblem(t, newServer(t).ask(t, post, "/v1/tasks/sleep_task?"+hookQuery, `{"duration": 2}`), http.StatusUnprocessableEntity, slugParameters)
	require.Equal(t, "callback_url", p.Errors[0].Parameter)
	require.Empty(t, c.promised)
}

func TestACallbackCanBeLookedAt(t *testing.T) {
	t.Parallel()
	s, c := newCallingServer(t)
	c.promised["t1"] = hook
	w := s.ask(t, get, "/v1/tasks/t1/callback", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, `{"task_id":"t1","webhook_id":"","url":"","state":"waiting","attempts":0,"latest":[],"next_attempt":null}`, w.Body.String())
	requireProblem(t, s.ask(t, get, "/v1/tasks/t2/callback", ""), http.StatusNotFound, slugNoCallback)
	requireProblem(t, newServer(t).ask(t, get, "/v1/tasks/t1/callback", ""), http.StatusNotFound, slugNoCallback)
}
