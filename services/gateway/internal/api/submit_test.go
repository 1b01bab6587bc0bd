package api

import (
	"context"
	"encoding/json"
	"errors"
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

func TestSubmitPublishesTheInputAndAnswers202(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.ask(t, post, "/v1/tasks/sleep_task", `{"duration": 5}`)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	answer := decode(t, w)
	id, _ := answer["task_id"].(string)
	_, ours := messages.IDTime(id)
	require.True(t, ours)
	require.Equal(t, "/v1/tasks/"+id, w.Header().Get("Location"))
	require.Equal(t, "PENDING", answer["state"])
	require.Equal(t, "sleep_task", answer["name"])
	require.Equal(t, "default", answer["queue"])
	require.NotEmpty(t, answer["date_created"])
	require.Nil(t, answer["result"])

	sent := s.publisher.last(t)
	require.Equal(t, "default", sent.queue)
	require.Zero(t, sent.delay)
	require.Equal(t, id, sent.task.ID)
	require.JSONEq(t, `{"duration": 5}`, string(sent.task.Kwargs))
	require.Equal(t, answer["date_created"], sent.task.Created.Format(time.RFC3339Nano))

	require.Len(t, s.store.recorded, 1)
	r := s.store.recorded[0]
	require.Equal(t, messages.Pending, r.State)
	require.Equal(t, id, r.TaskID)
	require.Equal(t, "sleep_task", r.Name)
}

func TestNumbersPassThroughUnchanged(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	input := `{"duration": 1.50, "serial": 9007199254740993123456789}`
	w := s.ask(t, post, "/v1/tasks/sleep_task", "\n"+input+"\n")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Equal(t, input, string(s.publisher.last(t).task.Kwargs))
	require.Contains(t, string(s.publisher.last(t).body), input)
}

func TestOptionsReachTheMessage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.ask(t, post, "/v1/tasks/sleep_task?task_id=mine&countdown=1.5&expires=60&queue=other&max_retries=0&time_limit=30&soft_time_limit=20.5", `{"duration":1}`,
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=1", "tracestate: b=2")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	sent := s.publisher.last(t)
	require.Equal(t, "other", sent.queue)
	require.Equal(t, 1500*time.Millisecond, sent.delay)
	task := sent.task
	require.Equal(t, "mine", task.ID)
	require.Equal(t, task.Created.Add(1500*time.Millisecond), task.ETA)
	require.Equal(t, task.Created.Add(time.Minute), task.Expires)
	require.Equal(t, 0, *task.MaxRetries)
	require.Equal(t, 30*time.Second, task.TimeLimit)
	require.Equal(t, 20500*time.Millisecond, task.SoftTimeLimit)
	require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", task.TraceParent)
	require.Equal(t, "a=1,b=2", task.TraceState)
	require.Equal(t, task.ETA.Format(time.RFC3339Nano), decode(t, w)["eta"])
	require.Equal(t, task.ETA, s.store.recorded[0].ETA)
	require.Equal(t, task.Expires, s.store.recorded[0].Expires)
}

func TestETAInThePastStartsAtOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.ask(t, post, "/v1/tasks/sleep_task?eta=2020-01-01T00:00:00%2B02:00", `{"duration":1}`)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Zero(t, s.publisher.last(t).delay)
}

func TestForeignQueueHoldsTheETAItself(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/v1/tasks/py_add?countdown=60", "/v1/tasks/sleep_task?queue=celery&countdown=60"} {
		s := newServer(t)
		s.store.announce(nil, sleepEntry(), messages.CatalogEntry{Name: "py_add", Queue: "py", Foreign: true})
		w := s.ask(t, post, target, `{"duration":1}`)
		require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
		require.Zero(t, s.publisher.last(t).delay)
		require.False(t, s.publisher.last(t).task.ETA.IsZero())
	}
}

func TestIgnoreResultLeavesNoRecordAndDoesNotWait(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.ask(t, post, "/v1/tasks/sleep_task?ignore_result=true", `{"duration":1}`, "Prefer: wait=20")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Empty(t, w.Header().Get("Preference-Applied"))
	require.Empty(t, s.store.recorded)
	require.True(t, s.publisher.last(t).task.IgnoreResult)
}

func TestMalformedTraceContextIsLeftOut(t *testing.T) {
	t.Parallel()
	for _, parent := range []string{
		"x", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0-", "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
	} {
		h := http.Header{"Traceparent": {parent}, "Tracestate": {"a=1"}}
		gotParent, gotState := traceContext(h)
		require.Empty(t, gotParent, parent)
		require.Empty(t, gotState, parent)
	}
	parent, state := traceContext(http.Header{
		"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Tracestate": {strings.Repeat("x", 513)},
	})
	require.NotEmpty(t, parent)
	require.Empty(t, state)
}

func TestBadInputNamesEveryField(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.ask(t, post, "/v1/tasks/sleep_task?countdown=-1&nope=1", `{"duration":500,"label":"toolong","extra":1,"x/y":2,"nested":{"a/b":"s"},"when":"soon"}`)
	p := requireProblem(t, w, http.StatusUnprocessableEntity, slugInput)
	require.Equal(t, []string{"?countdown", "?nope", "/duration", "/extra", "/label", "/nested/a~1b", "/nested/c~0d", "/when", "/x~1y"}, pointers(p))
	details := map[string]string{}
	for _, e := range p.Errors {
		if e.Pointer != nil {
			details[*e.Pointer] += e.Detail + ";"
		}
	}
	require.Equal(t, "must be at most 300, got 500;", details["/duration"])
	require.Equal(t, "is required;", details["/nested/c~0d"])
	require.Equal(t, "is not a field of this task;", details["/extra"])
	require.Contains(t, details["/label"], "one of")
	require.False(t, p.Retryable)
	require.Empty(t, s.publisher.sent)
}

func TestBadOptionsNameTheFieldAndTheLimit(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"task_id=":                             "must not be empty",
		"task_id=" + strings.Repeat("x", 256):  "255 bytes",
		"task_id=a%0Ab":                        "control characters",
		"task_id=%FF":                          "UTF-8",
		"countdown=x":                          "from 0 to 268435455",
		"countdown=NaN":                        "from 0 to 268435455",
		"countdown=Inf":                        "from 0 to 268435455",
		"countdown=0x1p3":                      "from 0 to 268435455",
		"countdown=268435456":                  "from 0 to 268435455",
		"countdown=1&countdown=2":              "given 2 times",
		"countdown=1&eta=2030-01-01T00:00:00Z": "together with eta",
		"eta=tomorrow":                         "RFC 3339",
		"eta=2030-01-01T00:00:00+02:00":        "%2B",
		"eta=2090-01-01T00:00:00Z":             "8.5 years",
		"expires=-1":                           "from 0",
		"expires=0":                            "in the past",
		"expires=2020-01-01T00:00:00Z":         "in the past",
		"expires=2026-01-01":                   "or a time",
		"expires=5&countdown=5":                "not after the start",
		"queue=":                               "must not be empty",
		"queue=lovage.x":                       "uses itself",
		"queue=a%20b":                          "letters",
		"max_retries=1.5":                      "from 0 to 10000",
		"max_retries=-1":                       "from 0 to 10000",
		"max_retries=10001":                    "from 0 to 10000",
		"time_limit=99999999":                  "from 0 to 2592000",
		"soft_time_limit=x":                    "from 0 to 2592000",
		"soft_time_limit=10&time_limit=5":      "above time_limit",
		"ignore_result=1":                      "true or false",
		"tsk_id=1":                             "there are task_id, countdown",
		"countdown=%zz":                        "cannot be read",
		"countdown=1;eta=2":                    "cannot be read",
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			p := requireProblem(t, s.ask(t, post, "/v1/tasks/sleep_task?"+query, `{"duration":1}`), http.StatusUnprocessableEntity, slugParameters)
			require.Len(t, p.Errors, 1)
			require.Contains(t, p.Errors[0].Detail, want)
			require.Empty(t, s.publisher.sent)
		})
	}
}

func TestUnknownTaskNamesTheNearest(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := requireProblem(t, s.ask(t, post, "/v1/tasks/slep_taks?queue=q", `{}`), http.StatusNotFound, slugUnknownTask)
	require.Equal(t, "sleep_task", p.Nearest[0])
	require.Contains(t, p.Detail, "slep_taks")
}

func TestTaskWithoutSchemaTakesAnyObject(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/send_mail", `{"any":["thing"]}`).Code)
	p := requireProblem(t, s.ask(t, post, "/v1/tasks/send_mail", `[1]`), http.StatusUnprocessableEntity, slugInput)
	require.Equal(t, []string{""}, pointers(p))
}

func TestTaskNameMayNeedEscaping(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.announce(nil, messages.CatalogEntry{Name: "a/b {c}", Queue: "q"})
	w := s.ask(t, post, "/v1/tasks/a%2Fb%20%7Bc%7D?task_id=x%2Fy%3F", `{}`)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Equal(t, "a/b {c}", s.publisher.last(t).task.Name)
	require.Equal(t, "/v1/tasks/x%2Fy%3F", w.Header().Get("Location"))
	s.store.put(&messages.Result{TaskID: "x/y?", State: messages.Started})
	require.Equal(t, http.StatusOK, s.ask(t, get, w.Header().Get("Location"), "").Code)
}

func TestEveryPublishOutcomeIsAProblemOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		slug   slug
	}{
		{messages.ErrBrokerUnavailable, 503, "broker-unavailable"},
		{messages.ErrNotSent, 503, "not-sent"},
		{messages.ErrQueueMissing, 503, "queue-missing"},
		{messages.ErrQueueUnavailable, 503, "queue-unavailable"},
		{messages.ErrRefused, 503, "refused"},
		{messages.ErrOverloaded, 503, "overloaded"},
		{&messages.QueueFullError{Queue: "q", Limit: 7, RetryAfter: 9 * time.Second}, 429, "queue-full"},
		{messages.ErrUnconfirmed, 504, "publish-unconfirmed"},
	} {
		s := newServer(t)
		s.publisher.err = fmt.Errorf("publish: %w", c.err)
		w := s.ask(t, post, "/v1/tasks/sleep_task?task_id=t1", `{"duration":1}`)
		require.NotEmpty(t, w.Header().Get("Retry-After"))
		p := requireProblem(t, w, c.status, c.slug)
		require.True(t, p.Retryable)
		require.Equal(t, "t1", p.TaskID)
		require.Empty(t, s.store.recorded, "a task that is not confirmed has no record")
	}
}

func TestUnknownPublishErrorStaysInside(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.publisher.err = errors.New("secret of the house")
	w := s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`)
	require.NotContains(t, w.Body.String(), "secret")
	requireProblem(t, w, http.StatusInternalServerError, slugInternal)
}

func TestPublishIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(o *Options) { o.PublishTimeout = 1500 * time.Millisecond })
		s.publisher.hang = true
		begun := time.Now()
		p := requireProblem(t, s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`), http.StatusGatewayTimeout, slugUnconfirmed)
		require.Equal(t, 1500*time.Millisecond, time.Since(begun))
		require.Contains(t, p.Detail, "this task_id")
	})
}

func TestPreferWaitAnswersWithTheResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.publisher.after = func(m *messages.Message) {
			time.AfterFunc(50*time.Millisecond, func() { s.store.put(&messages.Result{TaskID: m.MessageID, State: messages.Started}) })
			time.AfterFunc(3*time.Second, func() {
				s.store.put(&messages.Result{TaskID: m.MessageID, State: messages.Success, Value: []byte(`{"n":9007199254740993}`)})
			})
		}
		begun := time.Now()
		w := s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`, "Prefer: respond-async, wait=20")
		require.Equal(t, 3*time.Second, time.Since(begun), "it is told of the change")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		require.Equal(t, "wait=20", w.Header().Get("Preference-Applied"))
		require.NotEmpty(t, w.Header().Get("Location"))
		require.NotEmpty(t, w.Header().Get("ETag"))
		require.Contains(t, w.Body.String(), `"result":{"n":9007199254740993}`)
		require.Equal(t, 0, s.store.watching())
	})
}

func TestPreferWaitThatIsOverAnswers202(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.publisher.after = func(m *messages.Message) {
			s.store.put(&messages.Result{TaskID: m.MessageID, State: messages.Started, Worker: "w1"})
		}
		begun := time.Now()
		w := s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`, "Prefer: wait=5")
		require.Equal(t, 5*time.Second, time.Since(begun))
		require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
		require.Equal(t, "STARTED", decode(t, w)["state"])
		require.Equal(t, 0, s.store.watching())
	})
}

func TestPreferWaitEndsWithTheClientAndWithTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		time.AfterFunc(2*time.Second, s.Drain)
		begun := time.Now()
		w := s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`, "Prefer: wait=30")
		require.Equal(t, 2*time.Second, time.Since(begun))
		require.Equal(t, http.StatusAccepted, w.Code)

		s = newServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		r := httptest.NewRequestWithContext(ctx, post, "/v1/tasks/sleep_task", strings.NewReader(`{"duration":1}`))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Prefer", "wait=30")
		begun = time.Now()
		s.ServeHTTP(httptest.NewRecorder(), r)
		require.Equal(t, time.Second, time.Since(begun))
		require.Equal(t, 0, s.store.watching())
	})
}

func TestPreferWaitSurvivesAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		require.NotNil(t, s.ask(t, get, "/v1/catalog", ""))
		s.store.err = messages.ErrStoreUnavailable
		w := s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`, "Prefer: wait=2")
		require.Equal(t, http.StatusAccepted, w.Code, "the broker has it: %s", w.Body)
		require.Equal(t, "PENDING", decode(t, w)["state"])
	})
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// sink is a publisher, and a recorder, that keeps nothing.
type sink struct{}

func (sink) Enqueue(context.Context, string, time.Duration, *messages.Message) error { return nil }
func (sink) State() string                                                           { return "up" }
func (sink) Record(*messages.Result) bool                                            { return true }
func (sink) Await(context.Context, *messages.Result) bool                            { return true }

func BenchmarkSubmit(b *testing.B) {
	store := &fakeStore{entries: []messages.CatalogEntry{sleepEntry()}}
	a, err := New(Options{Publisher: sink{}, Results: store, Recorder: sink{}, Watcher: store, Catalog: store, Keys: &fakeKeys{}})
	if err != nil {
		b.Fatal(err)
	}
	a.catalog.refresh(b.Context(), 0)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(b.Context(), post, "/v1/tasks/sleep_task", strings.NewReader(`{"duration":5}`))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		a.ServeHTTP(discard{http.Header{}}, r)
	}
}

// The short way writes what the long one does.
func TestPendingTaskIsShownAsAnyOther(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 3600))
	for _, r := range []*messages.Result{
		pendingRecord(&messages.Task{ID: "a", Name: "t", Queue: "q", Created: at}),
		pendingRecord(&messages.Task{ID: "ü\"<>&\u2028\n", Name: "näme", Queue: "q", Created: at, ETA: at.Add(time.Hour), Expires: at.Add(2 * time.Hour)}),
		pendingRecord(&messages.Task{ID: "a", Name: "t", Queue: "q", Args: json.RawMessage(`[1]`), Kwargs: json.RawMessage(`{"a":1}`)}),
	} {
		want, err := encodeJSON(newTask(r))
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(pendingJSON(r)))
		if !strings.Contains(r.TaskID, "&") { // of which there are two ways to write it
			require.Equal(t, string(want), string(pendingJSON(r)))
		}
	}
}
