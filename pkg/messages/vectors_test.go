package messages_test

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// messageVector is one message as a Celery client published it.
type messageVector struct {
	Case     string
	Delivery struct {
		RoutingKey string `json:"routing_key"`
	}
	Properties struct {
		ContentType     string `json:"content_type"`
		ContentEncoding string `json:"content_encoding"`
		Priority        uint8
		CorrelationID   string `json:"correlation_id"`
		ReplyTo         string `json:"reply_to"`
		Expiration      string
	}
	Headers    map[string]any
	Body       string
	BodyBase64 []byte `json:"body_base64"`
}

// message is the vector as amqp091-go delivers it: whole numbers are int32
// (py-amqp writes 'I'), tables are amqp.Table.
func (v *messageVector) message() *messages.Message {
	body := v.BodyBase64
	if body == nil {
		body = []byte(v.Body)
	}
	return &messages.Message{
		RoutingKey:      v.Delivery.RoutingKey,
		ContentType:     v.Properties.ContentType,
		ContentEncoding: v.Properties.ContentEncoding,
		CorrelationID:   v.Properties.CorrelationID,
		ReplyTo:         v.Properties.ReplyTo,
		Expiration:      v.Properties.Expiration,
		Priority:        v.Properties.Priority,
		Headers:         map[string]any(delivered(v.Headers).(amqp.Table)),
		Body:            body,
	}
}

// plainBody is the body as Celery had it before it was compressed.
func (v *messageVector) plainBody(t *testing.T) string {
	t.Helper()
	if v.BodyBase64 == nil {
		return v.Body
	}
	r, err := zlib.NewReader(bytes.NewReader(v.BodyBase64))
	require.NoError(t, err)
	body, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(body)
}

// delivered turns values read from JSON into what amqp091-go makes of them.
func delivered(v any) any {
	switch v := v.(type) {
	case float64:
		if n := int32(v); float64(n) == v {
			return n
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = delivered(v[i])
		}
		return out
	case map[string]any:
		out := make(amqp.Table, len(v))
		for k := range v {
			out[k] = delivered(v[k])
		}
		return out
	}
	return v
}

// plain is the opposite of delivered, to compare with what Encode makes.
func plain(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case amqp.Table:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = plain(v[k])
		}
		return out
	}
	return v
}

// vector returns the first vector of a case.
func vector(tb testing.TB, name string) *messages.Message {
	tb.Helper()
	for _, v := range readLines[messageVector](tb, "celery-5.6-messages.jsonl") {
		if v.Case == name {
			return v.message()
		}
	}
	require.Fail(tb, "no such vector", name)
	return nil
}

func TestEveryCeleryMessageComesBackAsItWas(t *testing.T) {
	t.Parallel()
	for i, v := range readLines[messageVector](t, "celery-5.6-messages.jsonl") {
		t.Run(strconv.Itoa(i)+" "+v.Case, func(t *testing.T) {
			t.Parallel()
			sent := v.message()
			task, err := messages.Decode(v.message())
			require.NoError(t, err)
			require.NoError(t, task.Validate())
			again, err := messages.Encode(task)
			require.NoError(t, err)

			require.Equal(t, sent.ContentType, again.ContentType)
			require.Equal(t, sent.ContentEncoding, again.ContentEncoding)
			require.Equal(t, sent.CorrelationID, again.CorrelationID)
			require.Equal(t, sent.ReplyTo, again.ReplyTo)
			require.Equal(t, sent.Priority, again.Priority)
			require.Equal(t, sent.CorrelationID, again.MessageID)
			require.Empty(t, again.Expiration, "the broker must not drop a task on its own")

			headers := plain(amqp.Table(sent.Headers)).(map[string]any)
			// What is decoded travels on uncompressed.
			delete(headers, "compression")
			for name, want := range headers {
				require.Contains(t, again.Headers, name)
				require.Equal(t, want, again.Headers[name], name)
				delete(again.Headers, name)
			}
			require.Equal(t, map[string]any{"lovage_queue": "celery"}, again.Headers, "what we add")
			require.JSONEq(t, v.plainBody(t), string(again.Body))
		})
	}
}

func TestCeleryOptionsAreUnderstood(t *testing.T) {
	t.Parallel()
	task, err := messages.Decode(vector(t, "options"))
	require.NoError(t, err)
	require.Equal(t, "fixed-id", task.ID)
	require.Equal(t, "proj.add", task.Name)
	require.Equal(t, "alias", task.Shadow)
	require.Equal(t, "2026-11-21T01:14:33.871606Z", task.ETA.Format(rfc3339Micro))
	require.Equal(t, "2026-11-21T01:15:03.871606Z", task.Expires.Format(rfc3339Micro))
	require.Equal(t, uint8(5), task.Priority)
	require.Equal(t, map[string]any{"x-custom": "v"}, task.Headers)
	require.Equal(t, "celery", task.Queue)
	require.Equal(t, "gen14481@vm", task.Origin)
	require.Equal(t, "py", task.Lang)
	require.Nil(t, task.Embed)

	task, err = messages.Decode(vector(t, "stamped"))
	require.NoError(t, err)
	require.Equal(t, []string{"mon", "tenant"}, task.StampedHeaders)
	require.Equal(t, map[string]any{"mon": []any{"x", "y"}, "tenant": "a"}, task.Stamps)

	task, err = messages.Decode(vector(t, "eta tz"))
	require.NoError(t, err)
	require.True(t, task.IgnoreResult)

	task, err = messages.Decode(vector(t, "group"))
	require.NoError(t, err)
	require.Equal(t, "12f675aa-bd32-4cd4-bf5b-46177e8c5788", task.Group)
	require.NotNil(t, task.GroupIndex)
	require.Zero(t, *task.GroupIndex)
}

// resultVector is one record as a Celery worker wrote it.
type resultVector struct {
	Channel string
	Value   json.RawMessage
}

func TestEveryCeleryResultComesBackAsItWas(t *testing.T) {
	t.Parallel()
	groups := 0
	for i, v := range readLines[resultVector](t, "celery-5.6-results.jsonl") {
		if bytes.HasPrefix([]byte(v.Channel), []byte("celery-taskset-meta-")) {
			groups++
			_, err := messages.DecodeResult(v.Value)
			require.ErrorIs(t, err, messages.ErrNotResult)
			continue
		}
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			result, err := messages.DecodeResult(v.Value)
			require.NoError(t, err)
			require.Equal(t, v.Channel, messages.ResultKey(result.TaskID))
			again, err := messages.EncodeResult(result)
			require.NoError(t, err)

			var want map[string]any
			require.NoError(t, json.Unmarshal(v.Value, &want))
			if want["children"] == nil {
				want["children"] = []any{}
			}
			wanted, err := json.Marshal(want)
			require.NoError(t, err)
			require.JSONEq(t, string(wanted), string(again))
			require.Equal(t, propertyNames(t, v.Value), propertyNames(t, again), "order")
		})
	}
	require.Equal(t, 3, groups)
}

// propertyNames returns the names of an object's properties in their order.
func propertyNames(t *testing.T, raw []byte) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	_, err := d.Token()
	require.NoError(t, err)
	var names []string
	for d.More() {
		name, err := d.Token()
		require.NoError(t, err)
		names = append(names, name.(string))
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
	}
	return names
}

func TestCeleryResultsAreUnderstood(t *testing.T) {
	t.Parallel()
	byState := map[messages.State]*messages.Result{}
	for _, v := range readLines[resultVector](t, "celery-5.6-results.jsonl") {
		if result, err := messages.DecodeResult(v.Value); err == nil && byState[result.State] == nil {
			byState[result.State] = result
		}
	}
	require.Equal(t, []messages.State{
		messages.Failure, messages.Progress, messages.Retry, messages.Revoked,
		messages.Started, messages.Success,
	}, slices.Sorted(maps.Keys(byState)))

	success := byState[messages.Success]
	require.JSONEq(t, "3", string(success.Value))
	require.Equal(t, "2026-11-21T01:14:58.653766Z", success.DateDone.Format(rfc3339Micro))
	require.Equal(t, "w1@vm", success.Worker)
	require.Equal(t, "celery", success.Queue)
	require.Nil(t, success.Children)
	require.Nil(t, success.Error)

	failure := byState[messages.Failure]
	require.Equal(t, "ValueError", failure.Error.Type)
	require.Equal(t, "bad x", failure.Error.Message)
	require.Equal(t, "builtins", failure.Error.Module)
	require.Contains(t, failure.Error.Traceback, "Traceback (most recent call last)")
	require.Empty(t, failure.Value)

	progress := byState[messages.Progress]
	require.JSONEq(t, `{"current": 1, "total": 3}`, string(progress.Value))
	require.Nil(t, progress.Progress, "only ours have a shape that can be relied on")

	retry := byState[messages.Retry]
	require.Equal(t, "RuntimeError", retry.Error.Type)
	require.True(t, retry.DateDone.IsZero())
	require.JSONEq(t, `[[["076ffd4e-6b52-440f-a0e5-49786c00af01", null], null]]`, string(retry.Children))

	require.Equal(t, "TaskRevokedError", byState[messages.Revoked].Error.Type)
	require.JSONEq(t, `{"pid": 15035, "hostname": "w1@vm"}`, string(byState[messages.Started].Value))
}

const rfc3339Micro = "2006-01-02T15:04:05.000000Z07:00"
