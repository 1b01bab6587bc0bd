package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestGetShowsEveryField(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at := time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)
	s.store.put(&messages.Result{
		TaskID: "t1", State: messages.Retry, Name: "sleep_task", Worker: "w1", Queue: "default", Retries: 2, Run: 1, RootID: "t1",
		Error: &messages.TaskError{
			Type: "ValueError", Message: "bad", Module: "builtins", Args: json.RawMessage(`["bad",9007199254740993]`), Traceback: "tb",
		},
		Value: json.RawMessage(`{"pid":1}`), DateCreated: at, DateStarted: at.Add(time.Second), NextAttempt: at.Add(time.Minute),
		ETA: at, Expires: at.Add(time.Hour), ParentID: "p", GroupID: "g",
	})
	w := s.ask(t, get, "/v1/tasks/t1", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "private, no-cache", w.Header().Get("Cache-Control"))
	require.JSONEq(t, `{
		"task_id":"t1","state":"RETRY","name":"sleep_task","worker":"w1","queue":"default","retries":2,"run":1,"progress":null,"result":null,
		"error":{"type":"ValueError","message":"bad","module":"builtins","args":["bad",9007199254740993],"traceback":"tb"},
		"parent_id":"p","group_id":"g","date_created":"2026-05-04T03:02:01.123456Z","date_started":"2026-05-04T03:02:02.123456Z",
		"date_done":null,"next_attempt":"2026-05-04T03:03:01.123456Z","eta":"2026-05-04T03:02:01.123456Z","expires":"2026-05-04T04:02:01.123456Z"
	}`, w.Body.String())
}

func TestProgressOfOursAndOfCelery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		result messages.Result
		want   string
	}{
		{
			messages.Result{State: messages.Progress, Progress: &messages.ProgressInfo{Current: 1, Total: 4, Percent: 25, Meta: json.RawMessage(`{"a":1}`)}},
			`{"current":1,"total":4,"percent":25,"meta":{"a":1}}`,
		},
		{
			messages.Result{State: messages.Progress, Value: json.RawMessage(`{"current":1,"total":3,"x":[]}`)},
			`{"current":1,"total":3,"percent":33.33,"meta":{"current":1,"total":3,"x":[]}}`,
		},
		{messages.Result{State: messages.Progress, Value: json.RawMessage(`{"current":5,"total":0}`)}, `{"current":5,"total":0,"percent":null,"meta":{"current":5,"total":0}}`},
		{messages.Result{State: messages.Progress, Value: json.RawMessage(`"half"`)}, `{"current":null,"total":null,"percent":null,"meta":"half"}`},
		{messages.Result{State: messages.Progress}, `null`},
		{messages.Result{State: messages.Success, Value: json.RawMessage(`{"current":1}`)}, `null`},
	} {
		raw, err := json.Marshal(newTask(&c.result).Progress)
		require.NoError(t, err)
		require.JSONEq(t, c.want, string(raw))
	}
}

func TestETagSparesTheBody(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
	tag := s.ask(t, get, "/v1/tasks/t1", "").Header().Get("ETag")
	require.NotEmpty(t, tag)
	for _, have := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		w := s.ask(t, get, "/v1/tasks/t1", "", "If-None-Match: "+have)
		require.Equal(t, http.StatusNotModified, w.Code, have)
		require.Empty(t, w.Body.String())
		require.Equal(t, tag, w.Header().Get("ETag"))
	}
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Success, Value: json.RawMessage(`1`)})
	w := s.ask(t, get, "/v1/tasks/t1", "", "If-None-Match: "+tag)
	require.Equal(t, http.StatusOK, w.Code)
	require.NotEqual(t, tag, w.Header().Get("ETag"))
}

func TestMissingRecordSaysWhy(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *Options) { o.Retention = 24 * time.Hour })
	for id, want := range map[string]struct {
		status    int
		slug      slug
		retryable bool
	}{
		"whatever":                             {404, slugTaskNotFound, false},
		strings.Repeat("x", 255):               {404, slugTaskNotFound, false},
		"5f3d2e6a-9a7b-4c1d-8e2f-1a2b3c4d5e6f": {404, slugTaskNotFound, false},
		messages.NewID():                       {404, slugNotRecorded, true},
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f": {410, slugExpired, false},
		"ffffffff-79b0-7cc3-98c4-dc0c0c07398f": {404, slugTaskNotFound, false},
	} {
		p := requireProblem(t, s.ask(t, get, "/v1/tasks/"+id, ""), want.status, want.slug)
		require.Equal(t, want.retryable, p.Retryable)
		require.Equal(t, id, p.TaskID)
	}
	looks := s.store.gets
	for _, impossible := range []string{strings.Repeat("x", 256), "a%00b", "%FF"} {
		requireProblem(t, s.ask(t, get, "/v1/tasks/"+impossible, ""), http.StatusNotFound, slugTaskNotFound)
	}
	require.Equal(t, looks, s.store.gets)
}

func TestStoreThatIsAwayIsAProblem(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/v1/tasks/t1", "/v1/tasks", "/v1/workers"} {
		s := newServer(t)
		s.store.err = errors.Join(errors.New("get"), messages.ErrStoreUnavailable)
		w := s.ask(t, get, target, "")
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.True(t, requireProblem(t, w, http.StatusServiceUnavailable, "store-unavailable").Retryable)
	}
}

func TestStoreThatHangsIsAProblemInTime(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/v1/tasks/t1", "/v1/tasks", "/v1/workers"} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, func(o *Options) { o.ReadTimeout = time.Second })
			s.store.hang = true
			begun := time.Now()
			requireProblem(t, s.ask(t, get, target, ""), http.StatusServiceUnavailable, "store-unavailable")
			require.Equal(t, time.Second, time.Since(begun))
		})
	}
}

func TestUnreadableRecordIsInternal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.err = errors.New("decode result: secret")
	w := s.ask(t, get, "/v1/tasks/t1", "")
	require.NotContains(t, w.Body.String(), "secret")
	requireProblem(t, w, http.StatusInternalServerError, slugInternal)
}

func TestGetWithWaitAnswersWhenTheTaskIsFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
		time.AfterFunc(time.Second, func() { s.store.put(&messages.Result{TaskID: "t1", State: messages.Progress}) })
		time.AfterFunc(7*time.Second, func() { s.store.put(&messages.Result{TaskID: "t1", State: messages.Failure}) })
		begun := time.Now()
		w := s.ask(t, get, "/v1/tasks/t1", "", "Prefer: wait=20")
		require.Equal(t, 7*time.Second, time.Since(begun))
		require.Equal(t, "FAILURE", decode(t, w)["state"])
		require.Equal(t, "wait=20", w.Header().Get("Preference-Applied"))
		require.Equal(t, 0, s.store.watching())
	})
}

func TestLongPollAnswersWhenTheRecordHasChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
		tag := s.ask(t, get, "/v1/tasks/t1", "").Header().Get("ETag")
		time.AfterFunc(time.Second, func() { s.store.put(&messages.Result{TaskID: "t1", State: messages.Started}) })
		time.AfterFunc(2*time.Second, func() { s.store.put(&messages.Result{TaskID: "t1", State: messages.Progress}) })
		begun := time.Now()
		w := s.ask(t, get, "/v1/tasks/t1", "", "Prefer: wait=20", "If-None-Match: "+tag)
		require.Equal(t, 2*time.Second, time.Since(begun), "the same record again is no change")
		require.Equal(t, "PROGRESS", decode(t, w)["state"])

		begun = time.Now()
		w = s.ask(t, get, "/v1/tasks/t1", "", "Prefer: wait=3", "If-None-Match: "+w.Header().Get("ETag"))
		require.Equal(t, 3*time.Second, time.Since(begun))
		require.Equal(t, http.StatusNotModified, w.Code)
		require.Equal(t, "wait=3", w.Header().Get("Preference-Applied"))

		begun = time.Now()
		w = s.ask(t, get, "/v1/tasks/t1", "", "Prefer: wait=3", "If-None-Match: "+tag)
		require.Zero(t, time.Since(begun), "it has changed already")
		require.Equal(t, http.StatusOK, w.Code)
	})
}

func TestLongPollOfAFinalTaskDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.store.put(&messages.Result{TaskID: "t1", State: messages.Success})
		tag := s.ask(t, get, "/v1/tasks/t1", "").Header().Get("ETag")
		begun := time.Now()
		w := s.ask(t, get, "/v1/tasks/t1", "", "Prefer: wait=3", "If-None-Match: "+tag)
		require.Equal(t, http.StatusNotModified, w.Code)
		require.Zero(t, time.Since(begun))
	})
}

func TestWaitLooksByItselfWhenNoticesAreLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.store.put(&messages.Result{TaskID: "t1", State: messages.Started})
		time.AfterFunc(10*time.Second, func() {
			s.store.mu.Lock()
			defer s.store.mu.Unlock()
			s.store.records["t1"] = &messages.Result{TaskID: "t1", State: messages.Success}
		})
		begun := time.Now()
		w := s.ask(t, get, "/v1/tasks/t1", "", "Prefer: wait=60")
		require.Equal(t, "SUCCESS", decode(t, w)["state"])
		require.Less(t, time.Since(begun), 12*time.Second)
		require.Less(t, s.store.gets, 15)
	})
}

func TestWaitForATaskThatIsNotRecordedYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		id := messages.NewID()
		time.AfterFunc(time.Second, func() { s.store.put(&messages.Result{TaskID: id, State: messages.Success}) })
		w := s.ask(t, get, "/v1/tasks/"+id, "", "Prefer: wait=5")
		require.Equal(t, http.StatusOK, w.Code)

		begun := time.Now()
		requireProblem(t, s.ask(t, get, "/v1/tasks/"+messages.NewID(), "", "Prefer: wait=5"), http.StatusNotFound, slugNotRecorded)
		require.Equal(t, 5*time.Second, time.Since(begun))

		begun = time.Now()
		requireProblem(t, s.ask(t, get, "/v1/tasks/nobody", "", "Prefer: wait=5"), http.StatusNotFound, slugTaskNotFound)
		require.Zero(t, time.Since(begun))
	})
}

func TestGetTakesNoQuery(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, target := range []string{"/v1/tasks/t1?x=1", "/v1/catalog?x=1", "/v1/workers?x=1"} {
		requireProblem(t, s.ask(t, get, target, ""), http.StatusUnprocessableEntity, slugParameters)
	}
}

func TestListPassesTheFilterOn(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.store.page = Page{Results: []*messages.Result{
		{TaskID: "b", State: messages.Success, Value: json.RawMessage(`"small"`)},
		{TaskID: "a", State: messages.Success, Value: json.RawMessage(`"` + strings.Repeat("x", longestListed) + `"`)},
		{TaskID: "p", State: messages.Success, Packed: []byte("eJw="), PackedSize: longestListed},
	}, Next: "n1", Trimmed: 3}
	w := s.ask(t, get, "/v1/tasks?state=success,RETRY&state=FAILURE&name=n&queue=q&worker=w&error=bad+luck&id=0198&input.user_id=42&input.mail=a%40b&since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z&limit=2&cursor=c", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.Equal(t, Filter{
		States: []messages.State{messages.Success, messages.Retry, messages.Failure}, Name: "n", Queue: "q", Worker: "w",
		Error: "bad luck", ID: "0198", Input: map[string]string{"user_id": "42", "mail": "a@b"},
		Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
	}, s.store.listed)
	require.Equal(t, "c", s.store.cursor)
	require.Equal(t, 2, s.store.limit)
	answer := decode(t, w)
	require.Equal(t, "n1", answer["next_cursor"])
	require.Equal(t, json.Number("3"), answer["trimmed"])
	tasks, _ := answer["tasks"].([]any)
	require.Len(t, tasks, 3)
	small, _ := tasks[0].(map[string]any)
	require.Equal(t, "small", small["result"])
	require.NotContains(t, small, "result_omitted")
	for _, one := range tasks[1:] {
		large, _ := one.(map[string]any)
		require.Nil(t, large["result"])
		require.Equal(t, true, large["result_omitted"])
	}
}

func TestListAtItsEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.ask(t, get, "/v1/tasks", "")
	require.JSONEq(t, `{"tasks":[],"next_cursor":null,"trimmed":0}`, w.Body.String())
	require.Equal(t, 50, s.store.limit)
	require.Equal(t, Filter{}, s.store.listed)
}

func TestBadListParameters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for query, want := range map[string]string{
		"limit=0":     "from 1 to 200",
		"limit=201":   "from 1 to 200",
		"limit=":      "from 1 to 200",
		"state=nope":  "PENDING, RECEIVED",
		"state=":      "PENDING, RECEIVED",
		"since=today": "RFC 3339",
		"until=2026-01-01T00:00:00Z&since=2026-01-01T00:00:00Z": "after since",
		"name=":               "must not be empty",
		"error=":              "must not be empty",
		"id=":                 "must not be empty",
		"input.a=1&input.a=2": "given 2 times",
		"input.a=":            "must not be empty",
		"input.1=1&input.2=1&input.3=1&input.4=1&input.5=1&input.6=1&input.7=1&input.8=1&input.9=1": "at most 8 fields",
		"foo=bar": "there are state, name",
	} {
		p := requireProblem(t, s.ask(t, get, "/v1/tasks?"+query, ""), http.StatusUnprocessableEntity, slugParameters)
		require.Len(t, p.Errors, 1, query)
		require.Contains(t, p.Errors[0].Detail, want)
	}
	s.store.err = &messages.InvalidError{Field: "cursor", Rule: "must be one of ours"}
	p := requireProblem(t, s.ask(t, get, "/v1/tasks?cursor=zz", ""), http.StatusUnprocessableEntity, slugParameters)
	require.Equal(t, []string{"?cursor"}, pointers(p))
}

func TestListKnowsWhichFieldsAreIndexed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	entry := sleepEntry()
	entry.Indexed = []string{"label"}
	s.store.announce(nil, entry)
	s.catalog.refresh(t.Context(), 0)
	require.Equal(t, http.StatusOK, s.ask(t, get, "/v1/tasks?input.label=a", "").Code)
	require.Equal(t, http.StatusOK, s.ask(t, get, "/v1/tasks?input.label=a&name=sleep_task", "").Code)
	for _, query := range []string{"input.duration=1", "input.label=a&name=other"} {
		p := requireProblem(t, s.ask(t, get, "/v1/tasks?"+query, ""), http.StatusUnprocessableEntity, slugParameters)
		require.Contains(t, p.Errors[0].Detail, "/v1/catalog")
	}
}

func TestSubmissionsAreFoundByTheirIndexedFields(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	entry := sleepEntry()
	entry.Indexed = []string{"label", "duration"}
	s.store.announce(nil, entry)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/sleep_task", `{"duration": 1.50, "label": "a"}`).Code)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks", `{"task": "sleep_task", "args": [2, "b"]}`).Code)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks", `{"task": "other", "args": [2, "b"], "options": {"queue": "q"}}`).Code)
	require.Len(t, s.store.recorded, 3)
	require.ElementsMatch(t, []string{"duration=1.50", "label=a"}, s.store.recorded[0].Terms)
	require.ElementsMatch(t, []string{"duration=2", "label=b"}, s.store.recorded[1].Terms)
	require.Empty(t, s.store.recorded[2].Terms)
}

func TestPreferredWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lines []string
		want  time.Duration
		fails bool
	}{
		{nil, 0, false},
		{[]string{"wait=20"}, 20 * time.Second, false},
		{[]string{"respond-async", "WAIT = \"7\"; x=y"}, 7 * time.Second, false},
		{[]string{"wait=100000"}, time.Minute, false},
		{[]string{"wait=5, wait=5"}, 5 * time.Second, false},
		{[]string{"wait=5", "wait=6"}, 0, true},
		{[]string{"wait=-5"}, 0, false},
		{[]string{"wait"}, 0, false},
		{[]string{"wait=1.5"}, 0, false},
		{[]string{"wait=99999999999999999999"}, 0, false},
		{[]string{"waiting=5, return=minimal"}, 0, false},
	} {
		got, err := preferredWait(http.Header{"Prefer": c.lines}, time.Minute)
		require.Equal(t, c.fails, err != nil, c.lines)
		require.Equal(t, c.want, got, c.lines)
	}
}
