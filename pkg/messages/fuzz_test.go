package messages_test

import (
	"bytes"
	"encoding/json"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// shapes are the ways in which FuzzDecode makes header values of JSON.
const shapes = 5

// shaped turns a value read from JSON into types as a client library might
// deliver them.
func shaped(v any, shape uint8) any {
	switch v := v.(type) {
	case float64:
		switch shape % shapes {
		case 1:
			return int64(v)
		case 2:
			return int16(v)
		case 3:
			return float32(v)
		case 4:
			return amqp.Decimal{Scale: 1, Value: int32(v)}
		}
	case string:
		if shape%shapes == 4 {
			return []byte(v)
		}
	case []any:
		for i := range v {
			v[i] = shaped(v[i], shape)
		}
	case map[string]any:
		if shape%shapes == 0 {
			for k := range v {
				v[k] = shaped(v[k], shape)
			}
			return v
		}
		table := make(amqp.Table, len(v))
		for k := range v {
			table[k] = shaped(v[k], shape)
		}
		return table
	}
	return v
}

func FuzzDecode(f *testing.F) {
	for i, v := range readLines[messageVector](f, "celery-5.6-messages.jsonl") {
		m := v.message()
		headers, err := json.Marshal(v.Headers)
		require.NoError(f, err)
		f.Add(m.ContentType, m.ContentEncoding, m.RoutingKey, m.ReplyTo, headers, uint8(i), m.Body)
	}
	for _, body := range []string{
		`{"task": "a", "id": "b", "args": [], "kwargs": {}, "taskset": "g", "retries": 1, "timelimit": [1, null]}`,
		`[[NaN], {}, null]`, `[[], {}]`, `5`, ``, `[[], {"a": "\ud800"}, []]`, "[[\"\xff\"], {}, null]",
	} {
		f.Add("application/json", "", "celery", "", []byte(`{"task": "a", "id": "b"}`), uint8(1), []byte(body))
		f.Add("application/json", "utf-8", "0.1.q", "r", []byte(`{"x-death": [{"a": 1}], "lovage_run": 1, "CC": []}`), uint8(2), []byte(body))
	}
	f.Add("application/json", "", "q", "", []byte(`{"task": "a", "id": "b", "compression": "application/x-gzip"}`), uint8(0),
		deflated(f, bytes.Repeat([]byte("[]"), 1<<16)))
	f.Fuzz(func(t *testing.T, contentType, encoding, key, replyTo string, headers []byte, shape uint8, body []byte) {
		var table map[string]any
		if json.Unmarshal(headers, &table) != nil {
			return
		}
		for name := range table {
			table[name] = shaped(table[name], shape)
		}
		m := &messages.Message{
			ContentType: contentType, ContentEncoding: encoding, RoutingKey: key, ReplyTo: replyTo,
			Headers: table, Body: body,
		}
		first, err := messages.Decode(m)
		if err != nil {
			require.NotEmpty(t, decodeError(t, m).Why)
			messages.EncodeDeadLetter(m, deadLetter())
			requireSafe(t, m.Headers)
			return
		}
		requireSameAgain(t, first)
	})
}

// requireSameAgain encodes and decodes a task that was decoded.
func requireSameAgain(t *testing.T, first *messages.Task) {
	t.Helper()
	require.NoError(t, first.Validate())
	m, err := messages.Encode(first)
	require.NoError(t, err)
	requireSafe(t, m.Headers)
	second, err := messages.Decode(m)
	require.NoError(t, err)

	// Encode fills in what says nothing.
	want := *first
	for _, field := range []struct{ to, from *string }{
		{&want.Lang, &second.Lang},
		{&want.Origin, &second.Origin},
		{&want.ArgsRepr, &second.ArgsRepr},
		{&want.KwargsRepr, &second.KwargsRepr},
	} {
		if *field.to == "" {
			*field.to = *field.from
		}
	}
	require.Equal(t, &want, second)
}

func FuzzDecodeResult(f *testing.F) {
	for _, v := range readLines[resultVector](f, "celery-5.6-results.jsonl") {
		f.Add([]byte(v.Value))
	}
	full, err := messages.EncodeResult(fullResult())
	require.NoError(f, err)
	f.Add(full)
	f.Add([]byte(`{"status": "FAILURE", "task_id": "a", "result": {"exc_type": "A", "exc_message": "x"}}`))
	f.Add([]byte(`{"status": "SUCCESS", "task_id": "a", "result": [NaN, -Infinity]}`))
	f.Add([]byte(`{"status": "SUCCESS", "task_id": "a", "result": "eJw=", "result_encoding": "zlib+base64", "result_size": 3}`))
	f.Add([]byte(`{"status": "PROGRESS", "task_id": "a", "result": 1, "progress": {"current": 1, "meta": null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, err := messages.DecodeResult(raw)
		if err != nil {
			require.ErrorIs(t, err, messages.ErrNotResult)
			return
		}
		unpacked := *first
		if err := unpacked.Unpack(); err != nil {
			require.ErrorIs(t, err, messages.ErrNotResult)
		}
		once, err := messages.EncodeResult(first)
		require.NoError(t, err)
		second, err := messages.DecodeResult(once)
		require.NoError(t, err)
		twice, err := messages.EncodeResult(second)
		require.NoError(t, err)
		require.Equal(t, string(once), string(twice))
		compactResult(t, first)
		compactResult(t, second)
		require.Equal(t, first, second)
	})
}

// compactResult takes the white space out of the raw fields, as EncodeResult
// does.
func compactResult(t *testing.T, r *messages.Result) {
	t.Helper()
	fields := []*json.RawMessage{&r.Value, &r.Children, &r.Args, &r.Kwargs}
	if r.Progress != nil {
		fields = append(fields, &r.Progress.Meta)
	}
	if r.Error != nil {
		fields = append(fields, &r.Error.Args)
	}
	for _, field := range fields {
		if len(*field) == 0 {
			*field = json.RawMessage("null")
			continue
		}
		var out bytes.Buffer
		require.NoError(t, json.Compact(&out, *field))
		*field = out.Bytes()
	}
}
