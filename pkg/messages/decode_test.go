package messages_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// minimal is the least that Celery accepts, with these args.
func minimal(args string) *messages.Message {
	return &messages.Message{
		ContentType: "application/json",
		Headers:     map[string]any{"task": "a.task", "id": "an-id"},
		Body:        []byte(`[` + args + `, {}, null]`),
	}
}

// decodeError decodes what must not decode.
func decodeError(tb testing.TB, m *messages.Message) *messages.DecodeError {
	tb.Helper()
	task, err := messages.Decode(m)
	require.Nil(tb, task)
	var refused *messages.DecodeError
	require.ErrorAs(tb, err, &refused)
	return refused
}

func TestTheLeastThatCeleryAcceptsIsRead(t *testing.T) {
	t.Parallel()
	m := minimal("[1]")
	m.RoutingKey = "a-queue"
	task, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, &messages.Task{
		ID: "an-id", Name: "a.task", Args: json.RawMessage("[1]"), Kwargs: json.RawMessage("{}"),
		RootID: "an-id", Queue: "a-queue",
	}, task)
}

func TestNumbersInHeadersMayBeOfAnyType(t *testing.T) {
	t.Parallel()
	for _, two := range []any{
		2, int8(2), int16(2), int32(2), int64(2), uint(2), uint8(2), uint16(2), uint32(2), uint64(2),
		float32(2), float64(2),
	} {
		m := minimal("[]")
		m.Headers["retries"], m.Headers["lovage_run"], m.Headers["lovage_max_retries"] = two, two, two
		m.Headers["group_index"], m.Headers["replaced_task_nesting"] = two, two
		m.Headers["timelimit"] = []any{two, nil}
		m.Headers["ignore_result"] = two
		task, err := messages.Decode(m)
		require.NoError(t, err, "%T", two)
		require.Equal(t, 2, task.Retries)
		require.Equal(t, 2, task.Run)
		require.Equal(t, 2, *task.MaxRetries)
		require.Equal(t, 2, *task.GroupIndex)
		require.Equal(t, 2, task.ReplacedTaskNesting)
		require.Equal(t, 2*time.Second, task.TimeLimit)
		require.True(t, task.IgnoreResult)
	}
}

func TestNullHeadersAreAbsent(t *testing.T) {
	t.Parallel()
	m := minimal("[]")
	want, err := messages.Decode(m)
	require.NoError(t, err)
	for _, name := range []string{
		"retries", "eta", "expires", "timelimit", "group", "group_index", "root_id", "parent_id",
		"shadow", "origin", "lang", "argsrepr", "kwargsrepr", "ignore_result", "replaced_task_nesting", "stamped_headers",
		"stamps", "compression", "lovage_run", "lovage_queue", "traceparent",
	} {
		m.Headers[name] = nil
	}
	got, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestEmbedThatSaysNothingIsNil(t *testing.T) {
	t.Parallel()
	for _, embed := range []string{"null", "{}", "[]", " [ ] ", `{"callbacks": null, "chord": null}`} {
		m := minimal("[]")
		m.Body = []byte(`[[], {}, ` + embed + `]`)
		task, err := messages.Decode(m)
		require.NoError(t, err, embed)
		require.Nil(t, task.Embed, embed)
	}
	m := minimal("[]")
	m.Body = []byte(`[[], {}, {"chord": {"task": "x"}}]`)
	task, err := messages.Decode(m)
	require.NoError(t, err)
	require.JSONEq(t, `{"chord": {"task": "x"}}`, string(task.Embed))
}

func TestPayloadIsNotTouched(t *testing.T) {
	t.Parallel()
	m := minimal(`[9007199254740993, 1.10, "\u00fc<\/>", {"__type__": "uuid", "__value__": {"hex": "00"}}]`)
	task, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, `[9007199254740993, 1.10, "\u00fc<\/>", {"__type__": "uuid", "__value__": {"hex": "00"}}]`, string(task.Args))
	again, err := messages.Encode(task)
	require.NoError(t, err)
	require.Contains(t, string(again.Body), string(task.Args))
}

func TestProtocol1IsRead(t *testing.T) {
	t.Parallel()
	task, err := messages.Decode(&messages.Message{
		ContentType: "application/json", ContentEncoding: "utf-8", RoutingKey: "celery", ReplyTo: "r", Priority: 3,
		Headers: map[string]any{"x-mine": "v", "lang": "not ours to read", "lovage_run": int32(1), "traceparent": "00-a"},
		Body: []byte(`{"task": "proj.add", "id": "old-id", "args": [1, "\""], "kwargs": {"k": [2]}, "retries": 1,
			"eta": "2026-11-21T01:14:33.871606", "expires": null, "utc": true, "callbacks": [{"task": "cb"}], "errbacks": null,
			"chord": null, "timelimit": [20, 10.5], "taskset": "the-group", "unknown": {"a": []}}`),
	})
	require.NoError(t, err)
	require.Equal(t, &messages.Task{
		ID: "old-id", Name: "proj.add", Args: json.RawMessage(`[1, "\""]`), Kwargs: json.RawMessage(`{"k": [2]}`),
		Embed:   json.RawMessage(`{"callbacks":[{"task": "cb"}],"errbacks":null,"chain":null,"chord":null}`),
		Retries: 1, Run: 1, Queue: "celery", ETA: time.Date(2026, 11, 21, 1, 14, 33, 871606000, time.UTC),
		TimeLimit: 20 * time.Second, SoftTimeLimit: 10500 * time.Millisecond, RootID: "old-id", Group: "the-group",
		ReplyTo: "r", Priority: 3, TraceParent: "00-a", Headers: map[string]any{"x-mine": "v"},
	}, task)
}

func TestProtocol1NeedsLittle(t *testing.T) {
	t.Parallel()
	task, err := messages.Decode(&messages.Message{ContentType: "application/json", Body: []byte(`{"task": "a", "id": "b"}`)})
	require.NoError(t, err)
	require.Equal(t, &messages.Task{ID: "b", Name: "a", Args: json.RawMessage("[]"), Kwargs: json.RawMessage("{}"), RootID: "b"}, task)
}

func TestHybridIsRead(t *testing.T) {
	t.Parallel()
	task, err := messages.Decode(&messages.Message{
		ContentType: "application/json",
		Headers:     map[string]any{"task": "header.wins", "id": "header-id", "retries": int32(2), "x-mine": "v"},
		Body:        []byte(`{"task": "body", "id": "body-id", "args": [1], "kwargs": {}, "retries": 1, "eta": "2026-11-21T01:14:33Z"}`),
	})
	require.NoError(t, err)
	require.Equal(t, &messages.Task{
		ID: "header-id", Name: "header.wins", Args: json.RawMessage(`[1]`), Kwargs: json.RawMessage(`{}`), Retries: 2,
		ETA: time.Date(2026, 11, 21, 1, 14, 33, 0, time.UTC), RootID: "header-id", Headers: map[string]any{"x-mine": "v"},
	}, task)
}

func TestWhatCannotBeDecodedSaysWhy(t *testing.T) {
	t.Parallel()
	body := func(s string) func(*messages.Message) { return func(m *messages.Message) { m.Body = []byte(s) } }
	header := func(name string, v any) func(*messages.Message) {
		return func(m *messages.Message) { m.Headers[name] = v }
	}
	for name, test := range map[string]struct {
		change func(m *messages.Message)
		why    string
	}{
		"no task header":      {func(m *messages.Message) { delete(m.Headers, "task") }, "no header task"},
		"number as task":      {header("task", 5), "task: must be a string"},
		"empty task":          {header("task", ""), "no name"},
		"long task":           {header("task", strings.Repeat("t", 256)), "name: must not be longer"},
		"no id":               {func(m *messages.Message) { delete(m.Headers, "id") }, "no id"},
		"number as id":        {header("id", int32(5)), "id: must be a string"},
		"long id":             {header("id", strings.Repeat("i", 256)), "id: must not be longer"},
		"id not utf-8":        {header("id", "\xff"), "id: must be UTF-8"},
		"no content type":     {func(m *messages.Message) { m.ContentType = "" }, "content type is missing"},
		"pickle":              {func(m *messages.Message) { m.ContentType = "application/x-python-serialize" }, "application/x-python-serialize"},
		"binary":              {func(m *messages.Message) { m.ContentEncoding = "utf-16" }, "utf-16"},
		"unknown compression": {header("compression", "application/zstd"), "compression is unknown"},
		"compression type":    {header("compression", []byte("x")), "compression is unknown"},
		"bad compression":     {header("compression", "application/x-gzip"), "cannot be read as zlib"},
		"empty body":          {body(""), "body is empty"},
		"blank body":          {body(" \n"), "body is empty"},
		"bad body":            {body(`[[1, }`), "invalid character"},
		"trailing data":       {body(`[[], {}, null] []`), "not JSON"},
		"not utf-8":           {body("[[\"\xff\"], {}, null]"), "not UTF-8"},
		"NaN":                 {body(`[["NaN", NaN], {}, null]`), "NaN is not JSON"},
		"Infinity":            {body(`[[], {"a": Infinity}, null]`), "Infinity is not JSON"},
		"-Infinity":           {body(`[[-Infinity], {}, null]`), "-Infinity is not JSON"},
		"no elements":         {body(`[]`), "0 elements"},
		"two elements":        {body(`[[], {}]`), "2 elements"},
		"four elements":       {body(`[[], {}, {}, {}]`), "4 elements"},
		"number body":         {body(`5`), "not [args, kwargs, embed]"},
		"string body":         {body(`"[]"`), "not [args, kwargs, embed]"},
		"null body":           {body(`null`), "not [args, kwargs, embed]"},
		"object body":         {body(`{"kwargs": {}}`), "not [args, kwargs, embed]"},
		"args null":           {body(`[null, {}, null]`), "args must be an array"},
		"args object":         {body(`[{}, {}, null]`), "args must be an array"},
		"kwargs null":         {body(`[[], null, null]`), "kwargs must be an object"},
		"kwargs array":        {body(`[[], [], null]`), "kwargs must be an object"},
		"embed text":          {body(`[[], {}, "x"]`), "embed must be an object"},
		"embed list":          {body(`[[], {}, [1]]`), "embed must be an object"},
		"deep args":           {body(`[` + nested(129) + `, {}, null]`), "args must not nest"},
		"depth bomb":          {body(strings.Repeat("[", 1<<20)), "not JSON"},
		"closed depth bomb":   {body(`[` + nested(9000) + `, {}, null]`), "args must not nest"},
		"bad eta":             {header("eta", "tomorrow"), "eta: not an ISO 8601 time"},
		"number as eta":       {header("eta", 1795223698.5), "eta: must be a string"},
		"bad expires":         {header("expires", "2026-13-01T00:00:00"), "expires: not an ISO 8601 time"},
		"negative retries":    {header("retries", int64(-1)), "retries: must be a whole number"},
		"huge retries":        {header("retries", int64(1)<<31), "retries: must be a whole number"},
		"broken retries":      {header("retries", 1.5), "retries: must be a whole number"},
		"retries as text":     {header("retries", "1"), "retries: must be a whole number"},
		"short timelimit":     {header("timelimit", []any{int32(1)}), "timelimit: must be [hard, soft]"},
		"timelimit as number": {header("timelimit", int32(1)), "timelimit: must be an array"},
		"timelimit of text":   {header("timelimit", []any{"1", nil}), "timelimit: must be seconds"},
		"negative timelimit":  {header("timelimit", []any{nil, -1.0}), "timelimit: must be seconds"},
		"NaN timelimit":       {header("timelimit", []any{nil, math.NaN()}), "timelimit: must be seconds"},
		"number as root":      {header("root_id", int32(1)), "root_id: must be a string"},
		"bad ignore_result":   {header("ignore_result", "yes"), "ignore_result: must be true or false"},
		"bad stamps":          {header("stamps", "x"), "stamps: must be a table"},
		"bad stamped_headers": {header("stamped_headers", []any{int32(1)}), "stamped_headers: must be an array of strings"},
		"bad created":         {header("lovage_created", "x"), "lovage_created: not an ISO 8601 time"},
		"deep header":         {header("x", deepTable(200)), "x: nests deeper"},
		"odd header":          {header("x", make(chan int)), "x: is of a type that cannot travel"},
		"large headers":       {header("x", strings.Repeat("x", 70<<10)), "headers: must not take more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := minimal("[]")
			m.Headers["retries"], m.Headers["lovage_run"] = int32(4), int32(2)
			test.change(m)
			refused := decodeError(t, m)
			require.Contains(t, refused.Error(), test.why)
			if _, same := m.Headers["task"]; same && m.Headers["task"] == "a.task" {
				require.Equal(t, "a.task", refused.Name)
			}
			if m.Headers["id"] == "an-id" {
				require.Equal(t, "an-id", refused.ID)
			}
			require.Equal(t, 2, refused.Run)
			if m.Headers["retries"] == int32(4) {
				require.Equal(t, 4, refused.Retries)
			}
		})
	}
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func deepTable(depth int) amqp.Table {
	table := amqp.Table{}
	for range depth {
		table = amqp.Table{"t": table}
	}
	return table
}

func TestNestingUpToTheLimitIsRead(t *testing.T) {
	t.Parallel()
	task, err := messages.Decode(minimal(nested(messages.MaxDepth)))
	require.NoError(t, err)
	require.NoError(t, task.Validate())
}

func TestUndecodableProtocol1SaysWhoItIs(t *testing.T) {
	t.Parallel()
	for body, why := range map[string]string{
		`{"task": "a", "id": "b", "retries": 3, "kwargs": null}`:       "kwargs must be an object",
		`{"task": "a", "id": "b", "retries": 3, "args": null}`:         "args must be an array",
		`{"task": "a", "id": "b", "retries": 3, "eta": "never"}`:       "eta: not an ISO 8601 time",
		`{"task": "a", "id": "b", "retries": 3, "timelimit": [1e999]}`: "timelimit: must be",
	} {
		refused := decodeError(t, &messages.Message{ContentType: "application/json", Body: []byte(body)})
		require.Contains(t, refused.Error(), why)
		require.Equal(t, "a", refused.Name)
		require.Equal(t, "b", refused.ID)
		require.Equal(t, 3, refused.Retries)
	}
	refused := decodeError(t, &messages.Message{ContentType: "application/json", Body: []byte(`{"task": "a", "id": 12}`)})
	require.Equal(t, "12", refused.ID, "whoever sent it looks for the result under these digits")
	refused = decodeError(t, &messages.Message{ContentType: "application/json", Body: []byte(`{"task": "a"}`)})
	require.Contains(t, refused.Why, "no id")
	refused = decodeError(t, &messages.Message{ContentType: "application/json", Body: []byte(`{"hello": "world"}`)})
	require.Contains(t, refused.Why, "not a task message")
}

func TestInflatingStopsAtTheLimit(t *testing.T) {
	t.Parallel()
	m := minimal("[]")
	m.Headers["compression"] = "application/x-gzip"
	m.Body = deflated(t, []byte(`[["`+strings.Repeat("x", messages.InflateLimit)+`"], {}, null]`))
	refused := decodeError(t, m)
	require.ErrorIs(t, refused, messages.ErrTooLarge)
	require.Equal(t, "an-id", refused.ID)
}

func TestCutCompressedBodyIsAnErrorNotAShortBody(t *testing.T) {
	t.Parallel()
	m := minimal("[]")
	m.Headers["compression"] = "application/x-gzip"
	m.Body = deflated(t, []byte(`[[], {}, null]`+strings.Repeat(" ", 1000)))
	m.Body = m.Body[:len(m.Body)-6]
	require.ErrorIs(t, decodeError(t, m), io.ErrUnexpectedEOF)
}

func TestQueueOfADelayedCeleryMessage(t *testing.T) {
	t.Parallel()
	bits := strings.Repeat("0.", 25) + "1.0.1."
	for key, queue := range map[string]string{
		"celery": "celery", bits + "celery": "celery", bits + bits + "my.queue": "my.queue", bits: bits,
		strings.Repeat("0.", 27) + "x.celery": strings.Repeat("0.", 27) + "x.celery",
	} {
		m := minimal("[]")
		m.RoutingKey = key
		task, err := messages.Decode(m)
		require.NoError(t, err)
		require.Equal(t, queue, task.Queue)
	}
	m := minimal("[]")
	m.RoutingKey, m.Headers["lovage_queue"] = "lovage.rejected", "images"
	task, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, "images", task.Queue)
}

func TestTimeOfCreationComesFromTheIDWhenNobodySays(t *testing.T) {
	t.Parallel()
	m := minimal("[]")
	m.Headers["id"] = "0193490f-5d4b-7c3e-8a51-0a1b2c3d4e5f"
	task, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, time.UnixMilli(0x0193490f5d4b).UTC(), task.Created)
	m.Headers["lovage_created"] = "2026-11-21T01:14:33.871606+00:00"
	task, err = messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 11, 21, 1, 14, 33, 871606000, time.UTC), task.Created)
}

func TestDecodeDoesNotChangeTheMessage(t *testing.T) {
	t.Parallel()
	m, before := vector(t, "stamped"), vector(t, "stamped")
	m.Headers["x-nested"], before.Headers["x-nested"] = amqp.Table{"n": int64(1)}, amqp.Table{"n": int64(1)}
	_, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, before.Headers, m.Headers)
	require.True(t, bytes.Equal(before.Body, m.Body))
}
