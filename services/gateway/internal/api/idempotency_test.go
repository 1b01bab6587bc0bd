package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	sleepTask = "/v1/tasks/sleep_task"
	keyed     = "Idempotency-Key: k"
)

func TestSameKeyRepeatsTheAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.ask(t, post, sleepTask, `{"duration":1}`, keyed)
	require.Equal(t, http.StatusAccepted, first.Code, first.Body.String())
	require.Empty(t, first.Header().Get("Idempotency-Replayed"))
	require.Equal(t, decode(t, first)["task_id"], s.publisher.last(t).task.ID)
	require.Equal(t, s.PublishTimeout()+time.Second, s.keys.lease, "it outlasts the publish")

	for _, header := range []string{keyed, `Idempotency-Key: "k"`} {
		again := s.ask(t, post, sleepTask, ` {"duration":1}`, header)
		require.Equal(t, http.StatusAccepted, again.Code, again.Body.String())
		require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"))
		require.Equal(t, first.Body.String(), again.Body.String())
		require.Equal(t, first.Header().Get("Location"), again.Header().Get("Location"))
		require.Equal(t, first.Header().Get("Content-Type"), again.Header().Get("Content-Type"))
	}
	require.Len(t, s.publisher.sent, 1)
	require.Len(t, s.store.recorded, 1)
}

// PublishTimeout is what the API was given, or its default.
func (s *server) PublishTimeout() time.Duration { return s.opts.PublishTimeout }

func TestSameKeyRepeatsTheAnswerWhateverHasBecomeOfTheTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		target := sleepTask + "?expires=" + time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
		first := s.ask(t, post, target, `{"duration":1}`, keyed)
		require.Equal(t, http.StatusAccepted, first.Code, first.Body.String())
		<-time.After(time.Hour) // the task has expired
		s.store.announce(nil)
		again := s.ask(t, post, target, `{"duration":1}`, keyed)
		require.Equal(t, http.StatusAccepted, again.Code, again.Body.String())
		require.Equal(t, first.Body.String(), again.Body.String())
	})
}

func TestEnvelopeTakesAKey(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	body := `{"task":"sleep_task","args":[1],"options":{"task_id":"mine"}}`
	first := s.ask(t, post, "/v1/tasks", body, keyed)
	require.Equal(t, http.StatusAccepted, first.Code, first.Body.String())
	require.Equal(t, "mine", s.publisher.last(t).task.ID)
	require.Equal(t, "mine", s.keys.reservation.ID, "the reservation has the id that the caller chose")
	require.Equal(t, first.Body.String(), s.ask(t, post, "/v1/tasks", body, keyed).Body.String())
	require.Len(t, s.publisher.sent, 1)
}

func TestTaskIDOfTheCallerIsReserved(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask+"?task_id=mine", `{"duration":1}`, keyed).Code)
	require.Equal(t, "mine", s.publisher.last(t).task.ID)
	require.Equal(t, "mine", s.keys.reservation.ID)
}

func TestKeyWithAnotherPayloadIsRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	target := sleepTask + "?queue=a&max_retries=1"
	require.Equal(t, http.StatusAccepted, s.ask(t, post, target, `{"duration":1}`, keyed).Code)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask+"?max_retries=1&queue=%61", `{"duration":1}`, keyed).Code,
		"the order of the query is not the payload")
	for _, other := range []struct{ target, body string }{
		{target, `{"duration":2}`},
		{target, `{"duration": 1}`},
		{sleepTask, `{"duration":1}`},
		{"/v1/tasks/send_mail?queue=a&max_retries=1", `{"duration":1}`},
		{"/v1/tasks", `{"task":"sleep_task","kwargs":{"duration":1}}`},
		{target, `{"duration":-1}`},
	} {
		p := requireProblem(t, s.ask(t, post, other.target, other.body, keyed), http.StatusUnprocessableEntity, slugKeyReused)
		require.False(t, p.Retryable)
	}
	require.Len(t, s.publisher.sent, 1)
}

func TestKeyInFlightIsAConflictUntilItsLeaseIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.publisher.hang = true
		first := requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed), http.StatusGatewayTimeout, slugUnconfirmed)
		require.Contains(t, first.Detail, "same Idempotency-Key")
		require.NotEmpty(t, first.TaskID)

		s.publisher.hang = false
		w := s.ask(t, post, sleepTask, `{"duration":1}`, keyed)
		require.Equal(t, "1", w.Header().Get("Retry-After"), "what is left of the lease")
		p := requireProblem(t, w, http.StatusConflict, slugKeyInFlight)
		require.True(t, p.Retryable)
		require.Equal(t, first.TaskID, p.TaskID)
		require.Empty(t, s.publisher.sent)

		<-time.After(time.Second) // as the answer asks
		again := s.ask(t, post, sleepTask, `{"duration":1}`, keyed)
		require.Equal(t, http.StatusAccepted, again.Code, again.Body.String())
		require.Equal(t, first.TaskID, decode(t, again)["task_id"], "published under the same id")
		require.Equal(t, first.TaskID, s.publisher.last(t).task.ID)
		require.Equal(t, KeyDone, s.keys.state)
	})
}

func TestWaitForAKeyInFlightIsRoundedUp(t *testing.T) {
	t.Parallel()
	for left, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", 3 * time.Second: "3"} {
		w := httptest.NewRecorder()
		problemOf(keyProblem(Reserved{State: KeyBusy, RetryAfter: left})).header(w.Header())
		require.Equal(t, want, w.Header().Get("Retry-After"), left)
	}
}

func TestKeyIsReleasedWhenNothingWasSent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		err    error
		target string
		body   string
	}{
		{"broker unavailable", messages.ErrBrokerUnavailable, sleepTask, `{"duration":1}`},
		{"not sent", messages.ErrNotSent, sleepTask, `{"duration":1}`},
		{"queue missing", messages.ErrQueueMissing, sleepTask, `{"duration":1}`},
		{"queue unavailable", messages.ErrQueueUnavailable, sleepTask, `{"duration":1}`},
		{"refused", messages.ErrRefused, sleepTask, `{"duration":1}`},
		{"overloaded", messages.ErrOverloaded, sleepTask, `{"duration":1}`},
		{"queue full", &messages.QueueFullError{Queue: "q", Limit: 7}, sleepTask, `{"duration":1}`},
		{"not publishable", &messages.InvalidError{Field: "f", Rule: "r"}, sleepTask, `{"duration":1}`},
		{"invalid input", nil, sleepTask, `{"duration":0}`},
		{"invalid option", nil, sleepTask + "?countdown=x", `{"duration":1}`},
		{"invalid task id", nil, sleepTask + "?task_id=", `{"duration":1}`},
		{"unknown task", nil, "/v1/tasks/nope", `{}`},
		{"invalid envelope", nil, "/v1/tasks", `[]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if c.err != nil {
				s.publisher.err = fmt.Errorf("publish: %w", c.err)
			}
			w := s.ask(t, post, c.target, c.body, keyed)
			require.GreaterOrEqual(t, w.Code, 400)
			require.Equal(t, 1, s.keys.reserved)
			require.Empty(t, s.keys.state, "the key is free: %s", w.Body)
			s.publisher.err = nil
			require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask, `{"duration":3}`, keyed).Code, "for any payload")
		})
	}
}

func TestKeyIsKeptWhileItsPublishIsInDoubt(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"unconfirmed":                        messages.ErrUnconfirmed,
		"unconfirmed, then the broker fails": fmt.Errorf("%w: %w", messages.ErrUnconfirmed, messages.ErrBrokerUnavailable),
		"unknown":                            context.DeadlineExceeded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.publisher.err = fmt.Errorf("publish: %w", err)
			require.GreaterOrEqual(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed).Code, 500)
			require.Equal(t, KeyReserved, s.keys.state)
		})
	}
}

// The second holder sent nothing, but the first one may have: its id stays.
func TestKeyTakenOverInVainKeepsItsID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.publisher.err = messages.ErrUnconfirmed
		first := requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed), http.StatusGatewayTimeout, slugUnconfirmed)
		s.keys.lapses = time.Time{}
		s.publisher.err = messages.ErrBrokerUnavailable
		second := requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed), http.StatusServiceUnavailable, "broker-unavailable")
		require.Equal(t, first.TaskID, second.TaskID)
		s.publisher.err = nil
		third := s.ask(t, post, sleepTask, `{"duration":1}`, keyed)
		require.Equal(t, http.StatusAccepted, third.Code, third.Body.String())
		require.Equal(t, first.TaskID, decode(t, third)["task_id"])
	})
}

func TestWithoutAStoreOnlyKeyedSubmissionsAreRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.keys.err = fmt.Errorf("reserve key: %w", messages.ErrStoreUnavailable)
	w := s.ask(t, post, sleepTask, `{"duration":1}`, keyed)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	p := requireProblem(t, w, http.StatusServiceUnavailable, slugNoKeyStore)
	require.True(t, p.Retryable)
	require.Empty(t, p.TaskID, "nothing has this id")
	require.Empty(t, s.publisher.sent)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask, `{"duration":1}`).Code)

	s.keys.err = fmt.Errorf("reserve key: WRONGTYPE")
	requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed), http.StatusInternalServerError, slugInternal)
	require.Len(t, s.publisher.sent, 1)
}

func TestStoreOfKeysThatHangsIsAProblemInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(o *Options) { o.PublishTimeout = 700 * time.Millisecond })
		s.keys.hang = true
		begun := time.Now()
		requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed), http.StatusServiceUnavailable, slugNoKeyStore)
		require.Equal(t, 700*time.Millisecond, time.Since(begun))
	})
}

func TestStoreThatIsDeafAfterThePublishCostsTheClientNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.keys.deaf = true
		begun := time.Now()
		first := s.ask(t, post, sleepTask, `{"duration":1}`, keyed)
		require.Equal(t, http.StatusAccepted, first.Code, "the broker has it: %s", first.Body)
		require.Equal(t, s.PublishTimeout()+lastWord, time.Since(begun))

		s.keys.deaf = false
		<-time.After(time.Second) // the lease is over
		again := s.ask(t, post, sleepTask, `{"duration":1}`, keyed)
		require.Equal(t, http.StatusAccepted, again.Code, again.Body.String())
		require.Equal(t, decode(t, first)["task_id"], decode(t, again)["task_id"])
		require.Len(t, s.publisher.sent, 2, "a second message of the same task")
	})
}

func TestKeyedSubmissionIsBoundedAsAWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.publisher.hang, s.keys.deaf = true, true
		begun := time.Now()
		requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed), http.StatusGatewayTimeout, slugUnconfirmed)
		require.Equal(t, s.PublishTimeout(), time.Since(begun))
	})
}

func TestClientThatIsGoneStillSettlesItsKey(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.publisher.after = func(*messages.Message) { cancel() }
	r := httptest.NewRequestWithContext(ctx, post, sleepTask, strings.NewReader(`{"duration":1}`))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", "k")
	s.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, KeyDone, s.keys.state)
}

func TestClientThatIsGoneBeforeItsKeyIsReservedSaysNothingAboutRedis(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.keys.hang = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, post, sleepTask, strings.NewReader(`{"duration":1}`))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", "k")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	requireProblem(t, w, http.StatusServiceUnavailable, "not-sent")
	require.Empty(t, s.publisher.sent)
}

func TestReplayWaitsForTheOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		first := s.ask(t, post, sleepTask, `{"duration":1}`, keyed)
		id := s.publisher.last(t).task.ID
		begun := time.Now()
		w := s.ask(t, post, sleepTask, `{"duration":1}`, keyed, "Prefer: wait=2")
		require.Equal(t, 2*time.Second, time.Since(begun))
		require.Equal(t, http.StatusAccepted, w.Code)
		require.Equal(t, first.Body.String(), w.Body.String(), "nothing more is known")
		require.Equal(t, "wait=2", w.Header().Get("Preference-Applied"))

		time.AfterFunc(3*time.Second, func() {
			s.store.put(&messages.Result{TaskID: id, State: messages.Success, Value: []byte(`7`)})
		})
		begun = time.Now()
		w = s.ask(t, post, sleepTask, `{"duration":1}`, keyed, "Prefer: wait=20")
		require.Equal(t, 3*time.Second, time.Since(begun))
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		require.Equal(t, "true", w.Header().Get("Idempotency-Replayed"))
		require.Equal(t, "wait=20", w.Header().Get("Preference-Applied"))
		require.NotEmpty(t, w.Header().Get("ETag"))
		require.Contains(t, w.Body.String(), `"result":7`)
		require.Equal(t, 0, s.store.watching())
		require.Len(t, s.publisher.sent, 1)
	})
}

func TestKeyIsCompleteBeforeTheClientHasWaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		states := make(chan KeyState, 1)
		time.AfterFunc(time.Second, func() {
			s.keys.mu.Lock()
			defer s.keys.mu.Unlock()
			states <- s.keys.state
		})
		require.Equal(t, http.StatusAccepted, s.ask(t, post, sleepTask, `{"duration":1}`, keyed, "Prefer: wait=5").Code)
		require.Equal(t, KeyDone, <-states)
	})
}

func TestReplayOfATaskWithoutAResultDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		for _, c := range []struct{ target, body string }{
			{sleepTask + "?ignore_result=true", `{"duration":1}`},
			{"/v1/tasks", `{"task":"sleep_task","kwargs":{"duration":1},"options":{"ignore_result":true}}`},
		} {
			s.keys.state = ""
			begun := time.Now()
			for range 2 {
				w := s.ask(t, post, c.target, c.body, keyed, "Prefer: wait=5")
				require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
				require.Empty(t, w.Header().Get("Preference-Applied"))
			}
			require.Zero(t, time.Since(begun))
		}
	})
}

func TestBodyThatCannotBeReadReservesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	requireProblem(t, s.ask(t, post, sleepTask, `{"duration":`, keyed), http.StatusBadRequest, slugMalformed)
	requireProblem(t, s.ask(t, post, sleepTask, `{}`, keyed, "Content-Type: text/plain"), http.StatusUnsupportedMediaType, slugMediaType)
	require.Zero(t, s.keys.reserved)
}

func TestManyWithOneKeyPublishOneTask(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.catalog.refresh(t.Context(), 0)
	codes := make(chan int, 50)
	for range cap(codes) {
		go func() { codes <- s.ask(t, post, sleepTask, `{"duration":1}`, keyed).Code }()
	}
	for range cap(codes) {
		require.Contains(t, []int{http.StatusAccepted, http.StatusConflict}, <-codes)
	}
	require.Len(t, s.publisher.sent, 1)
}

func TestOpenAPIDocumentsTheKey(t *testing.T) {
	t.Parallel()
	_, doc := openAPIOf(t, sleepEntry())
	requireValidOpenAPI(t, doc)
	for _, path := range []string{"/v1/tasks", "/v1/tasks/{name}", "/v1/tasks/sleep_task"} {
		parameters, ok := dig(t, doc, "paths", path, "post")["parameters"].([]any)
		require.True(t, ok)
		var names []any
		for _, p := range parameters {
			names = append(names, p.(map[string]any)["name"])
		}
		require.Contains(t, names, "Idempotency-Key", path)
	}
}
