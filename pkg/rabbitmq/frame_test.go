package rabbitmq_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// What the library reads of a message of ours is what it reads of one that it
// has written itself, with every type that a header can have.
func TestMessagesArriveAsTheLibraryWouldHaveSentThem(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("q")
	headers := map[string]any{
		"string": "ü", "empty": "", "true": true, "false": false, "nil": nil, "int32": int32(-7), "int64": int64(1) << 40,
		"uint32": uint32(1) << 31, "int16": int16(-3), "uint16": uint16(65535), "int8": int8(-1), "uint8": uint8(255),
		"float32": float32(0.5), "float64": -0.25, "bytes": []byte{0, 1}, "time": time.Unix(1_700_000_000, 0),
		"decimal": amqp.Decimal{Scale: 2, Value: 314}, "list": []any{int32(1), "two", []any{}, nil},
		"table": map[string]any{"in": map[string]any{"deep": []any{true}}}, "none": map[string]any{},
	}
	for _, body := range [][]byte{nil, []byte("{}"), bytes.Repeat([]byte("0123456789"), 40_000)} {
		m := &messages.Message{
			ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: "c", ReplyTo: "r", MessageID: "m",
			Priority: 3, Headers: headers, Body: body,
		}
		require.NoError(t, p.Enqueue(t.Context(), "q", 0, m))
	}
	require.NoError(t, p.Enqueue(t.Context(), "q", 0, &messages.Message{}), "with nothing in it")

	ch := raw(t, url)
	require.NoError(t, ch.Confirm(false))
	byLibrary := amqp.Table{}
	maps.Copy(byLibrary, headers)
	byLibrary["table"] = amqp.Table{"in": amqp.Table{"deep": []any{true}}}
	byLibrary["none"] = amqp.Table{}
	confirm, err := ch.PublishWithDeferredConfirm("", "q", true, false, amqp.Publishing{
		ContentType: "application/json", ContentEncoding: "utf-8", CorrelationId: "c", ReplyTo: "r", MessageId: "m",
		Priority: 3, DeliveryMode: amqp.Persistent, Headers: byLibrary,
	})
	require.NoError(t, err)
	require.True(t, confirm.Wait())

	var got []amqp.Delivery
	for range 5 {
		d := get(t, ch, "q")
		d.Acknowledger, d.DeliveryTag, d.MessageCount = nil, 0, 0
		got = append(got, d)
	}
	for i, d := range got[:3] {
		require.Len(t, d.Body, []int{0, 2, 400_000}[i])
		d.Body = got[4].Body
		require.Equal(t, got[4], d)
	}
	require.True(t, bytes.HasSuffix(got[2].Body, []byte("0123456789")))
	require.Equal(t, amqp.Persistent, got[3].DeliveryMode)
	require.Equal(t, amqp.Table{"x-delivery-count": int64(0)}, got[3].Headers, "only what the queue adds")
}

// A content header cannot be split into frames: the broker would close the
// connection, and with it everybody else's messages would be in doubt.
func TestHeadersThatDoNotFitAFrameAreRefused(t *testing.T) {
	t.Parallel()
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, devstack.VHost(t)), Lanes: 1})
	p.Adopt("q")
	m := message("a")
	m.Headers["long"] = strings.Repeat("x", 128<<10)
	var invalid *messages.InvalidError
	require.ErrorAs(t, p.Enqueue(t.Context(), "q", 0, m), &invalid)
	require.Equal(t, "headers", invalid.Field)
	require.ErrorContains(t, invalid, "at most 131072 are allowed")
	m.Headers["long"] = strings.Repeat("x", 127<<10)
	require.NoError(t, p.Enqueue(t.Context(), "q", 0, m))
}
