package api

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Worker and Tell are those of one worker of the fake store, which does what the
// test says.
func (s *fakeStore) Worker(_ context.Context, name string) (messages.WorkerInfo, error) {
	for _, w := range s.workers {
		if w.Name == name {
			return w, s.err
		}
	}
	return messages.WorkerInfo{}, messages.ErrNotFound
}

func (s *fakeStore) Tell(ctx context.Context, worker string, c messages.WorkerCommand) (messages.WorkerAnswer, messages.Delivery, error) {
	if _, err := s.Worker(ctx, worker); err != nil {
		return messages.WorkerAnswer{}, "", err
	}
	s.told = c
	if s.became != messages.Answered {
		<-ctx.Done()
	}
	return s.answer, s.became, nil
}

func TestAWorkerIsRead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	require.JSONEq(t, `{"workers":[]}`, s.ask(t, get, "/v1/workers", "").Body.String())
	s.store.workers = []messages.WorkerInfo{{Name: "a/b 1", Queues: []string{"default"}, Slots: 4, Busy: 1, Running: []messages.RunningTask{{TaskID: "t1", Seconds: 1.5}}}}
	w := s.ask(t, get, "/v1/workers/a%2Fb%201", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	got := decode(t, w)
	require.Equal(t, "a/b 1", got["name"])
	require.Equal(t, map[string]any{}, got["held"])
	running := got["running"].([]any)[0].(map[string]any)
	require.Equal(t, "t1", running["task_id"])
	require.Contains(t, s.ask(t, get, "/v1/workers", "").Body.String(), `"name":"a/b 1"`)
	requireProblem(t, s.ask(t, get, "/v1/workers/none", ""), http.StatusNotFound, slugNoWorker)
	s.store.err = messages.ErrStoreUnavailable
	requireProblem(t, s.ask(t, get, "/v1/workers/a%2Fb%201", ""), http.StatusServiceUnavailable, "store-unavailable")
}

func TestAWorkerIsTold(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.workers = []messages.WorkerInfo{{Name: "w1"}}
	s.store.became, s.store.answer = messages.Answered, messages.WorkerAnswer{Slots: 3, Busy: 2, Dump: "1 @ 0x1", Goroutines: 1}

	w := s.ask(t, post, "/v1/workers/w1/slots?slots=3", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.JSONEq(t, `{"worker":"w1","status":"delivered","slots":3,"busy":2}`, w.Body.String())
	require.Equal(t, messages.WorkerCommand{Verb: messages.VerbSlots, Slots: 3}, s.store.told)

	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/workers/w1/stop", "").Code)
	require.Equal(t, messages.WorkerCommand{Verb: messages.VerbStop}, s.store.told)

	w = s.ask(t, post, "/v1/workers/w1/dump?task_id=t1", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.JSONEq(t, `{"worker":"w1","status":"delivered","slots":3,"busy":2,"task_id":"t1","goroutines":1,"truncated":false,"dump":"1 @ 0x1"}`, w.Body.String())
	require.Equal(t, messages.WorkerCommand{Verb: messages.VerbDump, TaskID: "t1"}, s.store.told)

	s.store.answer = messages.WorkerAnswer{Refused: "no goroutine of this task is here"}
	p := requireProblem(t, s.ask(t, post, "/v1/workers/w1/dump?task_id=t1", ""), http.StatusConflict, slugWorkerRefused)
	require.Contains(t, p.Detail, "no goroutine")
	for _, path := range []string{"slots", "slots?slots=-1", "slots?slots=10001", "slots?slots=1&x=2", "dump", "dump?task_id=", "stop?now=1"} {
		requireProblem(t, s.ask(t, post, "/v1/workers/w1/"+path, ""), http.StatusUnprocessableEntity, slugParameters)
	}
	requireProblem(t, s.ask(t, post, "/v1/workers/none/stop", ""), http.StatusNotFound, slugNoWorker)
}

func TestAWorkerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *Options) { o.SteerTimeout = 10 * time.Millisecond })
	s.store.workers = []messages.WorkerInfo{{Name: "w1"}}
	for became, text := range map[messages.Delivery]string{messages.Undelivered: "was taken back", messages.Taken: "may have done it"} {
		s.store.became = became
		p := requireProblem(t, s.ask(t, post, "/v1/workers/w1/stop", ""), http.StatusGatewayTimeout, slugWorkerTimeout)
		require.True(t, p.Retryable)
		require.Contains(t, p.Detail, text)
	}
}
