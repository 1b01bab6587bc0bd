package messages_test

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// fullResult returns a result in which every field says something.
func fullResult() *messages.Result {
	at := time.Date(2026, 11, 21, 1, 14, 33, 871606000, time.UTC)
	return &messages.Result{
		TaskID: "an-id", State: messages.Failure,
		Error:    &messages.TaskError{Type: "ResizeError", Message: "no <image> & no ünï", Module: "lovage", Traceback: "goroutine 1"},
		Reason:   messages.ReasonPermanent,
		Progress: &messages.ProgressInfo{Current: 1, Total: 3, Percent: 33.3, Meta: json.RawMessage(`{"file":"a"}`)},
		Children: json.RawMessage(`[[["child",null],null]]`), GroupID: "group", ParentID: "parent", RootID: "root",
		Name: "proj.resize", Args: json.RawMessage(`[9007199254740993]`), Kwargs: json.RawMessage(`{"a":1}`),
		Worker: "host-1-abc", Retries: 2, Queue: "images", Run: 1,
		DateCreated: at, DateStarted: at.Add(time.Second), DateDone: at.Add(2 * time.Second), NextAttempt: at.Add(time.Minute),
		ETA: at.Add(time.Hour), Expires: at.Add(2 * time.Hour),
	}
}

func TestResultComesBack(t *testing.T) {
	t.Parallel()
	raw, err := messages.EncodeResult(fullResult())
	require.NoError(t, err)
	got, err := messages.DecodeResult(raw)
	require.NoError(t, err)
	require.Equal(t, fullResult(), got)
	require.Equal(t, []string{
		"status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "name",
		"args", "kwargs", "worker", "retries", "queue", "root_id", "run", "progress", "dead_reason", "date_created",
		"date_started", "next_attempt", "eta", "expires", "task_id",
	}, propertyNames(t, raw))
}

func TestLeastResult(t *testing.T) {
	t.Parallel()
	raw, err := messages.EncodeResult(&messages.Result{TaskID: "a", State: messages.Pending})
	require.NoError(t, err)
	require.JSONEq(t, `{"status":"PENDING","result":null,"traceback":null,"children":[],"date_done":null,"task_id":"a"}`, string(raw))
}

func TestStartedNamesProcessAndWorker(t *testing.T) {
	t.Parallel()
	raw, err := messages.EncodeResult(&messages.Result{TaskID: "a", State: messages.Started, Worker: "w"})
	require.NoError(t, err)
	got, err := messages.DecodeResult(raw)
	require.NoError(t, err)
	require.JSONEq(t, `{"pid": `+strconv.Itoa(os.Getpid())+`, "hostname": "w"}`, string(got.Value))
}

func TestProgressIsResultAndProperty(t *testing.T) {
	t.Parallel()
	in := &messages.Result{TaskID: "a", State: messages.Progress, Progress: &messages.ProgressInfo{Current: 1, Total: 4, Percent: 25}}
	raw, err := messages.EncodeResult(in)
	require.NoError(t, err)
	var record map[string]any
	require.NoError(t, json.Unmarshal(raw, &record))
	require.Equal(t, map[string]any{"current": 1.0, "total": 4.0, "percent": 25.0}, record["result"])
	got, err := messages.DecodeResult(raw)
	require.NoError(t, err)
	require.Equal(t, in, got)
}

func TestDateDoneIsForFinalStatesOnly(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 2, 14, 58, 653766999, time.FixedZone("", 3600))
	for _, state := range messages.States() {
		raw, err := messages.EncodeResult(&messages.Result{TaskID: "a", State: state, DateDone: at})
		require.NoError(t, err)
		var record map[string]any
		require.NoError(t, json.Unmarshal(raw, &record))
		if state.Final() {
			require.Equal(t, "2026-11-21T01:14:58.653766+00:00", record["date_done"])
		} else {
			require.Nil(t, record["date_done"])
		}
	}
}

func TestRevokedWithoutErrorIsCelerysOwn(t *testing.T) {
	t.Parallel()
	raw, err := messages.EncodeResult(&messages.Result{TaskID: "a", State: messages.Revoked})
	require.NoError(t, err)
	require.Contains(t, string(raw), `"result":{"exc_type":"TaskRevokedError","exc_message":["revoked"],"exc_module":"celery.exceptions"}`)
}

func TestResultThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	broken, number, late := json.RawMessage(`{`), json.RawMessage(`1`), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	result := &messages.Result{
		Value: json.RawMessage(`NaN`), Args: broken, Kwargs: json.RawMessage("\"\xff\""), Children: number,
		Error: &messages.TaskError{Args: number}, Progress: &messages.ProgressInfo{Total: math.NaN(), Meta: broken},
		DateCreated: late, DateStarted: late, DateDone: late, NextAttempt: late, ETA: late, Expires: late,
	}
	_, err := messages.EncodeResult(result)
	require.Equal(t, []string{
		"task_id", "status", "result", "args", "kwargs", "children", "exc_message", "progress.meta",
		"progress", "date_created", "date_started", "date_done", "next_attempt", "eta", "expires",
	}, faultyFields(t, err))
}

func TestWhatIsNoResultIsRefused(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "2", "null", "[]", `"x"`, "{", `{}`, `{"status": "SUCCESS"}`, `{"task_id": "a"}`,
		`{"status": 1, "task_id": "a"}`, `{"status": "SUCCESS", "task_id": 1}`, `{"status": "", "task_id": "a"}`,
		`{"result": [["gid", null], []]}`, "{\"status\": \"SUCCESS\", \"task_id\": \"\xff\"}", nested(20000),
		`{"status": "SUCCESS", "task_id": "a"} x`,
	} {
		_, err := messages.DecodeResult([]byte(raw))
		require.ErrorIs(t, err, messages.ErrNotResult, raw)
	}
}

func TestMalformedPropertiesAreEmpty(t *testing.T) {
	t.Parallel()
	got, err := messages.DecodeResult([]byte(`{"status": "CUSTOM", "result": {"a": 1}, "traceback": 1, "children": {}, "date_done": 5,
		"group_id": 1, "parent_id": [], "name": "n", "args": null, "worker": {}, "retries": "x", "queue": 1, "root_id": null,
		"run": -1, "progress": [], "date_created": "never", "eta": "", "tenant": "a stamp", "task_id": "a"}`))
	require.NoError(t, err)
	require.Equal(t, &messages.Result{TaskID: "a", State: "CUSTOM", Value: json.RawMessage(`{"a": 1}`), Name: "n"}, got)
	got, err = messages.DecodeResult([]byte(`{"status": "SUCCESS", "task_id": "a", "progress": {"current": "x"}, "retries": 1e999}`))
	require.NoError(t, err)
	require.Nil(t, got.Progress)
}

func TestExceptionsOfAllShapesAreRead(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]messages.TaskError{
		`{"exc_type": "A", "exc_message": ["x"], "exc_module": "m"}`:    {Type: "A", Message: "x", Module: "m"},
		`{"exc_type": "A", "exc_message": ["x", 1], "exc_module": "m"}`: {Type: "A", Message: "x, 1", Args: json.RawMessage(`["x", 1]`), Module: "m"},
		`{"exc_type": "A", "exc_message": [], "exc_module": "m"}`:       {Type: "A", Args: json.RawMessage(`[]`), Module: "m"},
		`{"exc_type": "A", "exc_message": [null], "exc_module": "m"}`:   {Type: "A", Message: "null", Args: json.RawMessage(`[null]`), Module: "m"},
		`{"exc_type": "A", "exc_message": "old \u00fc"}`:                {Type: "A", Message: "old ü", Module: "celery.exceptions"},
		`{"exc_type": "A", "exc_message": null, "exc_module": null}`:    {Type: "A", Module: "celery.exceptions"},
		`{"exc_type": "A", "exc_message": {"k": 1}, "exc_module": "m"}`: {Type: "A", Message: `{"k":1}`, Args: json.RawMessage(`[{"k": 1}]`), Module: "m"},
		`"just text"`: {Type: "UnknownError", Message: "just text", Module: "lovage"},
		`null`:        {Type: "UnknownError", Module: "lovage"},
		`{"a": 1}`:    {Type: "UnknownError", Message: `{"a":1}`, Args: json.RawMessage(`[{"a": 1}]`), Module: "lovage"},
	} {
		got, err := messages.DecodeResult([]byte(`{"status": "FAILURE", "task_id": "a", "result": ` + raw + `}`))
		require.NoError(t, err)
		require.Equal(t, &want, got.Error, raw)
		require.Empty(t, got.Value)
	}
	got, err := messages.DecodeResult([]byte(`{"status": "RETRY", "task_id": "a"}`))
	require.NoError(t, err)
	require.Equal(t, "UnknownError", got.Error.Type)
}

func TestPythonNumbersInResultsAreNull(t *testing.T) {
	t.Parallel()
	got, err := messages.DecodeResult([]byte(`{"status": "SUCCESS", "result": [NaN, -Infinity, {"NaN": Infinity}, "-Infinity \" NaN"], "task_id": "a"}`))
	require.NoError(t, err)
	require.JSONEq(t, `[null, null, {"NaN": null}, "-Infinity \" NaN"]`, string(got.Value))
	_, err = messages.DecodeResult([]byte(`{"status": NaNa, "task_id": "a"}`))
	require.ErrorIs(t, err, messages.ErrNotResult)
}

func TestLargeResultIsNotEscaped(t *testing.T) {
	t.Parallel()
	raw, err := messages.EncodeResult(&messages.Result{TaskID: "a", State: messages.Success, Value: json.RawMessage(`"<a href=\"?b&c\">"`)})
	require.NoError(t, err)
	require.Contains(t, string(raw), `"<a href=\"?b&c\">"`)
}
