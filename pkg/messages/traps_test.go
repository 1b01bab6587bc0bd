package messages_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// The tests in this file are the traps that others fell into when they spoke
// Celery's protocol.

func TestTrapTimelimitIsHardThenSoft(t *testing.T) {
	t.Parallel()
	task, err := messages.Decode(vector(t, "options"))
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, task.TimeLimit)
	require.Equal(t, 5*time.Second, task.SoftTimeLimit)

	m, err := messages.Encode(&messages.Task{ID: "a", Name: "b", TimeLimit: 2500 * time.Millisecond, SoftTimeLimit: time.Second})
	require.NoError(t, err)
	require.Equal(t, []any{2.5, int32(1)}, m.Headers["timelimit"])
}

func TestTrapGzipIsZlib(t *testing.T) {
	t.Parallel()
	body := []byte(`[[1, 2], {}, null]`)
	message := func(body []byte) *messages.Message {
		m := minimal("[]")
		m.Headers["compression"] = "application/x-gzip"
		m.Body = body
		return m
	}
	task, err := messages.Decode(message(deflated(t, body)))
	require.NoError(t, err)
	require.JSONEq(t, "[1, 2]", string(task.Args))

	var gzipped bytes.Buffer
	w := gzip.NewWriter(&gzipped)
	_, err = w.Write(body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	refused := decodeError(t, message(gzipped.Bytes()))
	require.Contains(t, refused.Why, "zlib")
	require.ErrorIs(t, refused, zlib.ErrHeader)
	require.Equal(t, "an-id", refused.ID)
}

// deflated returns body in the format of kombu's "gzip". It only stores: the
// tests want the format, not the time that compressing large bodies takes.
func deflated(tb testing.TB, body []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := zlib.NewWriterLevel(&out, zlib.NoCompression)
	require.NoError(tb, err)
	_, err = w.Write(body)
	require.NoError(tb, err)
	require.NoError(tb, w.Close())
	return out.Bytes()
}

// everything returns a task in which every field says something.
func everything() *messages.Task {
	three, one := 3, 1
	return &messages.Task{
		ID: "0193490f-5d4b-7c3e-8a51-0a1b2c3d4e5f", Name: "proj.resize", Args: json.RawMessage(`[1, "ünï"]`),
		Kwargs:  json.RawMessage(`{"url": "https://example.org/?a=1&b=<2>", "none": null, "big": 9007199254740993}`),
		Embed:   json.RawMessage(`{"callbacks": null, "errbacks": null, "chain": [], "chord": null}`),
		Retries: 2, Run: 1, MaxRetries: &three, Queue: "images",
		Created:   time.Date(2026, 11, 21, 1, 14, 3, 871606000, time.UTC),
		ETA:       time.Date(2026, 11, 21, 2, 14, 3, 0, time.FixedZone("", 3600)),
		Expires:   time.Date(2026, 11, 22, 1, 14, 3, 0, time.UTC),
		TimeLimit: 10 * time.Second, SoftTimeLimit: 7500 * time.Millisecond,
		RootID: "root", ParentID: "parent", Group: "group", GroupIndex: &one, Shadow: "alias", Origin: "gen1@host",
		Lang: "go", ArgsRepr: "(1, 'ünï')", KwargsRepr: "{...}", ReplyTo: "reply", Priority: 9, IgnoreResult: true, Retention: 90 * time.Minute,
		ReplacedTaskNesting: 1, StampedHeaders: []string{"tenant"},
		Stamps:      map[string]any{"tenant": "a", "n": 1.0, "f": 1.5, "list": []any{"x", nil, true}},
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "vendor=1",
		Headers: map[string]any{"x-text": "v", "x-int": 5, "x-table": map[string]any{"deep": []any{int64(-7)}}},
	}
}

func TestTrapHeadersAreOfTypesThatBothLibrariesRead(t *testing.T) {
	t.Parallel()
	task := everything()
	// Every type that could get in, with values that the two libraries read
	// differently when they are written as they are.
	task.Headers = map[string]any{
		"int8": int8(-5), "byte": byte(200), "int16": int16(-300), "uint16": uint16(60000), "int": -70000,
		"int64": int64(-5), "uint32": uint32(1 << 31), "uint64": uint64(1 << 40), "beyond": int64(math.MaxInt64),
		"uint": uint(7), "max": uint64(math.MaxUint64), "float32": float32(0.5), "bytes": []byte("raw"),
		"time": time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC), "decimal": amqp.Decimal{Scale: 2, Value: 314},
		"table": amqp.Table{"n": int64(-1), "t": amqp.Table{"deep": int16(1)}}, "strings": []string{"a"}, "nil": nil,
		"bool": true, "named": messages.Success,
	}
	m, err := messages.Encode(task)
	require.NoError(t, err)
	requireSafe(t, m.Headers)
	require.Equal(t, int32(-5), m.Headers["int64"])
	require.Equal(t, int32(-300), m.Headers["int16"])
	require.InDelta(t, float64(1<<40), m.Headers["uint64"], 0)
	require.Equal(t, "9223372036854775807", m.Headers["beyond"], "a float64 would round it")
	require.Equal(t, "18446744073709551615", m.Headers["max"])
	require.InDelta(t, 3.14, m.Headers["decimal"], 1e-9)
	require.Equal(t, map[string]any{"n": int32(-1), "t": map[string]any{"deep": int32(1)}}, m.Headers["table"])
	require.NoError(t, delivered(m.Headers).(amqp.Table).Validate(), "amqp091-go can write them")
}

// requireSafe fails on any type but string, bool, int32, float64, nil, []any
// and map[string]any.
func requireSafe(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case string, bool, int32, float64, nil:
	case []any:
		for _, e := range v {
			requireSafe(t, e)
		}
	case map[string]any:
		for _, e := range v {
			requireSafe(t, e)
		}
	default:
		require.Failf(t, "unsafe header type", "%T", v)
	}
}

func TestTrapLargeNumbersInHeadersAreRead(t *testing.T) {
	t.Parallel()
	// py-amqp writes a number above 2^31-1 as eight bytes.
	m := minimal("[]")
	m.Headers["x-millis"] = int64(1795223698000)
	m.Headers["x-beyond"] = int64(math.MaxInt64)
	m.Headers["retries"] = int64(2)
	task, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, 2, task.Retries)
	require.Equal(t, map[string]any{"x-millis": 1795223698000.0, "x-beyond": "9223372036854775807"}, task.Headers)
}

func TestTrapMessagesThatKillAPythonWorkerAreRefused(t *testing.T) {
	t.Parallel()
	without := func(change func(m *messages.Message)) *messages.Message {
		m := minimal("[]")
		change(m)
		return m
	}
	for name, m := range map[string]*messages.Message{
		"no id":           without(func(m *messages.Message) { delete(m.Headers, "id") }),
		"null id":         without(func(m *messages.Message) { m.Headers["id"] = nil }),
		"no content type": without(func(m *messages.Message) { m.ContentType = "" }),
		"two elements":    without(func(m *messages.Message) { m.Body = []byte(`[[], {}]`) }),
		"four elements":   without(func(m *messages.Message) { m.Body = []byte(`[[], {}, null, null]`) }),
		"empty body":      without(func(m *messages.Message) { m.Body = nil }),
		"number body":     without(func(m *messages.Message) { m.Body = []byte(`3`) }),
	} {
		refused := decodeError(t, m)
		require.Equal(t, "a.task", refused.Name, name)
		require.NotEmpty(t, refused.Why, name)
	}
}

func TestTrapResultNamesItsTask(t *testing.T) {
	t.Parallel()
	raw, err := messages.EncodeResult(&messages.Result{TaskID: "an-id", State: messages.Success})
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(raw), `,"task_id":"an-id"}`), "Python's get() raises KeyError without")

	_, err = messages.EncodeResult(&messages.Result{State: messages.Success})
	var invalid *messages.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "task_id", invalid.Field)
}

func TestTrapExceptionsAreObjectsWithAListOfArguments(t *testing.T) {
	t.Parallel()
	for _, state := range []messages.State{messages.Retry, messages.Failure, messages.Revoked} {
		for name, taskError := range map[string]*messages.TaskError{
			"message": {Type: "ResizeError", Message: "no <image>"},
			"list":    {Type: "KeyError", Message: "a, 1", Args: json.RawMessage(`["a", 1]`), Module: "builtins"},
			"none":    nil,
			"empty":   {},
		} {
			raw, err := messages.EncodeResult(&messages.Result{TaskID: "a", State: state, Error: taskError, Value: json.RawMessage(`1`)})
			require.NoError(t, err)
			var record struct {
				Result struct {
					Type    string `json:"exc_type"`
					Message []any  `json:"exc_message"`
					Module  string `json:"exc_module"`
				}
			}
			require.NoError(t, json.Unmarshal(raw, &record), name)
			require.NotEmpty(t, record.Result.Type, name)
			require.NotEmpty(t, record.Result.Message, name)
			require.NotEmpty(t, record.Result.Module, name)
		}
	}
}

func TestTrapSignaturesPassThroughUntouched(t *testing.T) {
	t.Parallel()
	// A signature needs all six of its keys, so nothing may tidy it up.
	for _, name := range []string{"links", "chain", "chord", "chain|group|task"} {
		m := vector(t, name)
		task, err := messages.Decode(m)
		require.NoError(t, err)
		require.NotEmpty(t, task.Embed)
		again, err := messages.Encode(task)
		require.NoError(t, err)
		require.Contains(t, string(m.Body), string(task.Embed))
		require.Contains(t, string(again.Body), string(task.Embed))
	}
}

func TestTrapUserHeaderCannotBeTakenForTheProtocols(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"headers", "task", "id", "retries", "timelimit", "stamps", "compression", "traceparent", "tracestate",
		"lovage_run", "lovage_anything", "lovage_dead_reason", "x-death", "x-first-death-queue", "x-last-death-reason",
		"x-delivery-count", "CC", "BCC", "get", "update", "args", "chord", "delivery_info", "called_directly", "",
		strings.Repeat("n", 256),
	} {
		task := &messages.Task{ID: "a", Name: "b", Headers: map[string]any{name: "v"}}
		err := task.Validate()
		var invalid *messages.InvalidError
		require.ErrorAs(t, err, &invalid, name)
		require.Equal(t, "headers."+name, invalid.Field)
		_, err = messages.Encode(task)
		require.ErrorAs(t, err, &invalid, name)
	}
}

func TestTrapWhatTheBrokerAddedIsStripped(t *testing.T) {
	t.Parallel()
	m := minimal("[]")
	m.Headers["x-death"] = []any{amqp.Table{"count": int64(3), "queue": "q", "time": time.Now()}}
	m.Headers["x-first-death-exchange"] = ""
	m.Headers["x-last-death-reason"] = "expired"
	m.Headers["x-delivery-count"] = int64(2)
	m.Headers["CC"] = []any{"elsewhere"}
	m.Headers["headers"] = amqp.Table{"sentry-trace": "x"}
	m.Headers["lovage_dead_reason"] = "permanent"
	m.Headers["x-mine"] = "kept"
	task, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"x-mine": "kept"}, task.Headers)
	require.NoError(t, task.Validate())
}
