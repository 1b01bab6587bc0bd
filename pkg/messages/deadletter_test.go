package messages_test

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func deadLetter() messages.DeadLetter {
	return messages.DeadLetter{
		Reason: messages.ReasonRetriesExhausted, Error: "ResizeError: no image", Stack: "goroutine 1 [running]:\nmain.main()",
		Queue: "images", Run: 1, Attempts: 4, Worker: "host-1-abc",
		FirstTime: time.Date(2026, 11, 21, 1, 14, 33, 871606000, time.UTC),
		LastTime:  time.Date(2026, 11, 21, 1, 20, 0, 0, time.UTC),
	}
}

func TestDeadLetterComesBackAndIsFlat(t *testing.T) {
	t.Parallel()
	task := everything()
	m, err := messages.Encode(task)
	require.NoError(t, err)
	messages.EncodeDeadLetter(m, deadLetter())
	for name, v := range m.Headers {
		if strings.HasPrefix(name, "lovage_dead_") {
			require.Condition(t, func() bool {
				_, text := v.(string)
				_, number := v.(int32)
				return text || number
			}, name)
		}
	}
	got, ok := messages.DecodeDeadLetter(m)
	require.True(t, ok)
	require.Equal(t, deadLetter(), got)

	// It is the same task, and forgets its death when it is sent again.
	again, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, task.ID, again.ID)
	m, err = messages.Encode(again)
	require.NoError(t, err)
	_, ok = messages.DecodeDeadLetter(m)
	require.False(t, ok)
}

func TestDeadLetterLeavesOutWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	m := minimal("[]")
	messages.EncodeDeadLetter(m, deadLetter())
	messages.EncodeDeadLetter(m, messages.DeadLetter{Reason: messages.ReasonBroker})
	require.Equal(t, map[string]any{
		"task": "a.task", "id": "an-id", "lovage_dead_reason": "broker",
		"lovage_dead_run": int32(0), "lovage_dead_attempts": int32(0),
	}, m.Headers)
	got, ok := messages.DecodeDeadLetter(m)
	require.True(t, ok)
	require.Equal(t, messages.DeadLetter{Reason: messages.ReasonBroker}, got)

	m = &messages.Message{}
	_, ok = messages.DecodeDeadLetter(m)
	require.False(t, ok)
	messages.EncodeDeadLetter(m, messages.DeadLetter{Reason: messages.ReasonUndecodable, Run: -1, Attempts: math.MaxInt})
	require.Equal(t, int32(0), m.Headers["lovage_dead_run"])
	require.Equal(t, int32(math.MaxInt32), m.Headers["lovage_dead_attempts"])
}

func TestDeadLetterTextsAreBounded(t *testing.T) {
	t.Parallel()
	m := minimal("[]")
	d := deadLetter()
	d.Error, d.Stack = strings.Repeat("ü€", 5000), "\xff"+strings.Repeat("€", 20000)
	messages.EncodeDeadLetter(m, d)
	got, ok := messages.DecodeDeadLetter(m)
	require.True(t, ok)
	require.LessOrEqual(t, len(got.Error), 4<<10)
	require.Greater(t, len(got.Error), 4<<10-4)
	require.LessOrEqual(t, len(got.Stack), 16<<10)
	require.Greater(t, len(got.Stack), 16<<10-8)
	require.True(t, utf8.ValidString(got.Error))
	require.True(t, utf8.ValidString(got.Stack))
	require.True(t, strings.HasPrefix(d.Error, got.Error))
}

func TestUndecodableMessageCanBecomeADeadLetter(t *testing.T) {
	t.Parallel()
	m := minimal("[]")
	m.Body = []byte("not json")
	received := m.Headers
	m.Headers["x-death"] = []any{amqp.Table{"count": int64(1)}}
	m.Headers["x-short"] = int16(5)
	m.Headers["x-odd"] = make(chan int)
	m.Headers["compression"] = "application/x-gzip"
	m.Headers["x-huge"] = strings.Repeat("x", 100<<10)
	d := deadLetter()
	d.Stack = strings.Repeat("s", 20<<10)
	messages.EncodeDeadLetter(m, d)
	requireSafe(t, m.Headers)
	require.NotContains(t, m.Headers, "x-death")
	require.NotContains(t, m.Headers, "x-odd")
	require.NotContains(t, m.Headers, "x-huge", "the frame would be too large and cost the connection")
	require.Equal(t, int32(5), m.Headers["x-short"])
	require.Equal(t, "application/x-gzip", m.Headers["compression"])
	require.Equal(t, "an-id", m.Headers["id"])
	require.Equal(t, []byte("not json"), m.Body)
	require.Contains(t, received, "x-death", "the table that came is left as it was")
	_, ok := messages.DecodeDeadLetter(m)
	require.True(t, ok)
}
