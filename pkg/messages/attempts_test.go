package messages_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestAttemptsTravelWithTheTask(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	r := &messages.Result{
		TaskID: "a", State: messages.Retry, Retries: 2, Run: 1, Worker: "w", DateStarted: at,
		Error: &messages.TaskError{Type: "ValueError", Message: strings.Repeat("ü", 300)},
	}
	r.Attempts = messages.Remember(nil, r.PastAttempt(at.Add(time.Second)))
	past := r.Attempts[0]
	require.LessOrEqual(t, len(past.Error), 200)
	require.True(t, strings.HasPrefix(past.Error, "ValueError: ü"), past.Error)
	past.Error = ""
	require.Equal(t, messages.PastAttempt{Run: 1, Number: 3, State: messages.Retry, Worker: "w", Started: at, Ended: at.Add(time.Second)}, past)

	m, err := messages.Encode(&messages.Task{ID: "a", Name: "n", Queue: "q", Attempts: r.Attempts})
	require.NoError(t, err)
	task, err := messages.Decode(m)
	require.NoError(t, err)
	require.Equal(t, r.Attempts, task.Attempts)
	raw, err := messages.EncodeResult(r)
	require.NoError(t, err)
	read, err := messages.DecodeResult(raw)
	require.NoError(t, err)
	require.Equal(t, r.Attempts, read.Attempts)
}

func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	var past []messages.PastAttempt
	for i := range 100 {
		before := past
		past = messages.Remember(past, messages.PastAttempt{Number: i})
		require.NotContains(t, before, messages.PastAttempt{Number: i}, "what was there before is not touched")
	}
	require.Len(t, past, 10)
	require.Equal(t, 99, past[9].Number)
}

func TestStrangeAttemptsAreForgotten(t *testing.T) {
	t.Parallel()
	for _, strange := range []any{"x", "{}", "[1]", int32(3), `[{"started":"never"}]`} {
		m, err := messages.Encode(&messages.Task{ID: "a", Name: "n", Queue: "q"})
		require.NoError(t, err)
		m.Headers["lovage_attempts"] = strange
		task, err := messages.Decode(m)
		require.NoError(t, err)
		require.Empty(t, task.Attempts, "%v", strange)
	}
}
