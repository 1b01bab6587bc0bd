package messages_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// protocolHeaders are the headers that Celery always writes.
func protocolHeaders() []string {
	return []string{
		"lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit",
		"root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting",
		"stamped_headers", "stamps",
	}
}

func TestEncodeWritesAllHeadersOfTheProtocolAndNoMore(t *testing.T) {
	t.Parallel()
	m, err := messages.Encode(&messages.Task{ID: "a", Name: "b"})
	require.NoError(t, err)
	for _, name := range protocolHeaders() {
		require.Contains(t, m.Headers, name)
	}
	require.Len(t, m.Headers, len(protocolHeaders()))
	require.Equal(t, "a", m.Headers["root_id"])
	require.Equal(t, "go", m.Headers["lang"])
	require.Equal(t, []any{nil, nil}, m.Headers["timelimit"])
	require.Equal(t, map[string]any{}, m.Headers["stamps"])
	require.Equal(t, "()", m.Headers["argsrepr"])
	require.Equal(t, "{}", m.Headers["kwargsrepr"])
	require.Equal(t, false, m.Headers["ignore_result"])
	require.Contains(t, m.Headers["origin"], "gen"+strconv.Itoa(os.Getpid())+"@")
	require.Equal(t, "a", m.CorrelationID)
	require.Equal(t, "a", m.MessageID)
	require.Equal(t, "application/json", m.ContentType)
	require.Equal(t, "utf-8", m.ContentEncoding)
	require.JSONEq(t, `[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]`, string(m.Body))
}

func TestWhatIsEncodedDecodesToTheSame(t *testing.T) {
	t.Parallel()
	task := everything()
	m, err := messages.Encode(task)
	require.NoError(t, err)
	requireSafe(t, m.Headers)
	got, err := messages.Decode(m)
	require.NoError(t, err)

	task.ETA = task.ETA.UTC()
	task.Headers = map[string]any{"x-text": "v", "x-int": int32(5), "x-table": map[string]any{"deep": []any{int32(-7)}}}
	require.Equal(t, task, got)
}

func TestOwnHeadersAreLeftOutWhenTheySayNothing(t *testing.T) {
	t.Parallel()
	zero := 0
	m, err := messages.Encode(&messages.Task{ID: "a", Name: "b", MaxRetries: &zero})
	require.NoError(t, err)
	require.Equal(t, int32(0), m.Headers["lovage_max_retries"], "no retries is not the same as the handler's own")
	require.NotContains(t, m.Headers, "lovage_run")
}

func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	minus, huge := -1, math.MaxInt32+1
	task := &messages.Task{
		Name: strings.Repeat("n", 256), Args: json.RawMessage(`{}`), Kwargs: json.RawMessage(`[]`), Embed: json.RawMessage(`1`),
		Retries: -1, Run: huge, MaxRetries: &minus, GroupIndex: &huge, ReplacedTaskNesting: -1, TimeLimit: -time.Second,
		SoftTimeLimit: math.MaxInt64, ETA: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		Expires: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), Created: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		ReplyTo: strings.Repeat("r", 256), Headers: map[string]any{"task": 1, "x": func() {}, "y": map[string]any{strings.Repeat("n", 256): 1}}, Stamps: map[string]any{"": 1},
	}
	require.Equal(t, []string{
		"args", "kwargs", "embed", "id", "name", "reply_to", "retries", "run",
		"replaced_task_nesting", "max_retries", "group_index", "time_limit", "soft_time_limit", "eta", "expires", "created",
		"headers.task", "headers.x", "headers.y", "stamps.",
	}, faultyFields(t, task.Validate()))
	_, err := messages.Encode(task)
	require.Error(t, err)
}

// faultyFields returns the fields of joined InvalidErrors.
func faultyFields(t *testing.T, err error) []string {
	t.Helper()
	var joined interface{ Unwrap() []error }
	require.ErrorAs(t, err, &joined)
	var fields []string
	for _, err := range joined.Unwrap() {
		var invalid *messages.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.NotEmpty(t, invalid.Rule)
		fields = append(fields, invalid.Field)
	}
	return fields
}

func TestValidateLooksIntoThePayload(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"[", "[NaN]", "[\"\xff\"]", "null", "1", `"x"`, " ", nested(129), "[] []", "[01]"} {
		task := &messages.Task{ID: "a", Name: "b", Args: json.RawMessage(args)}
		require.Equal(t, []string{"args"}, faultyFields(t, task.Validate()), args)
	}
	for _, args := range []string{"", " [ ] ", nested(128), `[1e5, -0.5, "é\ud800"]`} {
		task := &messages.Task{ID: "a", Name: "b", Args: json.RawMessage(args)}
		require.NoError(t, task.Validate(), args)
	}
}

func TestValidateBoundsTheHeadersTogether(t *testing.T) {
	t.Parallel()
	task := &messages.Task{ID: "a", Name: "b", Headers: map[string]any{}}
	for _, name := range []string{"a", "b", "c"} {
		task.Headers[name] = strings.Repeat("x", 20<<10)
	}
	require.NoError(t, task.Validate())
	task.Stamps = map[string]any{"d": strings.Repeat("x", 20<<10)}
	require.Equal(t, []string{"headers"}, faultyFields(t, task.Validate()))
}

func TestFaultsCanBeFoundWithErrorsAs(t *testing.T) {
	t.Parallel()
	_, err := messages.Encode(&messages.Task{ID: "a"})
	var invalid *messages.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "name: must not be empty", invalid.Error())
	require.NotErrorAs(t, err, new(*messages.DecodeError))
	require.NoError(t, errors.Join())
}

func TestInput(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args, kwargs string
		params       []string
		want, fault  string
	}{
		"nothing":          {"", "", nil, `{}`, ""},
		"kwargs":           {"[]", `{"a": 1, "b": {"c": [2]}}`, nil, `{"a": 1, "b": {"c": [2]}}`, ""},
		"args":             {`[1, "x,]", [2, {}]]`, "", []string{"a", "b", "c", "d"}, `{"a": 1, "b": "x,]", "c": [2, {}]}`, ""},
		"both":             {`[1]`, `{"b": 2}`, []string{"a", "b"}, `{"a": 1, "b": 2}`, ""},
		"odd name":         {`[1]`, "", []string{`a"b`}, `{"a\"b": 1}`, ""},
		"number":           {`[9007199254740993]`, "", []string{"a"}, `{"a": 9007199254740993}`, ""},
		"too many":         {`[1, 2]`, "", []string{"a"}, "", "args"},
		"too many of none": {`[1]`, "", nil, "", "args"},
		"twice":            {`[1]`, `{"a": 2}`, []string{"a"}, "", "kwargs.a"},
		"twice escaped":    {`[1]`, `{"\u0061": 2}`, []string{"a"}, "", "kwargs.a"},
		"args object":      {`{}`, "", nil, "", "args"},
		"kwargs array":     {"", `[]`, nil, "", "kwargs"},
		"args broken":      {`[1`, "", nil, "", "args"},
		"kwargs NaN":       {"", `{"a": NaN}`, nil, "", "kwargs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := messages.Input(json.RawMessage(test.args), json.RawMessage(test.kwargs), test.params)
			if test.fault != "" {
				var invalid *messages.InvalidError
				require.ErrorAs(t, err, &invalid)
				require.Equal(t, test.fault, invalid.Field)
				return
			}
			require.NoError(t, err)
			require.JSONEq(t, test.want, string(got))
		})
	}
}

func TestInputKeepsNumbersAsTheyAre(t *testing.T) {
	t.Parallel()
	got, err := messages.Input(json.RawMessage(`[9007199254740993]`), json.RawMessage(`{"b": 1.10}`), []string{"a"})
	require.NoError(t, err)
	require.Equal(t, `{"a":9007199254740993,"b":1.10}`, string(got))
}
