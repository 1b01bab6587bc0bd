package messages_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// goldenMessage is a message as the files under testdata/golden hold it.
type goldenMessage struct {
	Properties struct {
		ContentType     string `json:"content_type"`
		ContentEncoding string `json:"content_encoding"`
		CorrelationID   string `json:"correlation_id"`
		MessageID       string `json:"message_id"`
		ReplyTo         string `json:"reply_to"`
		Priority        uint8  `json:"priority"`
	} `json:"properties"`
	Headers map[string]any `json:"headers"`
	// Body is text, so that a change of a single space shows.
	Body string `json:"body"`
}

// golden compares got with the file, or writes the file with -update. A
// difference is a change of the protocol.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".json")
	if updating() {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run with -update if the protocol is meant to change")
}

func TestGoldenMessages(t *testing.T) {
	t.Parallel()
	retry := everything()
	retry.ArgsRepr, retry.KwargsRepr = "", ""
	for name, task := range map[string]*messages.Task{
		"message-least":      {ID: "an-id", Name: "proj.add", Origin: "gen1@host"},
		"message-everything": everything(),
		"message-repr":       retry,
	} {
		m, err := messages.Encode(task)
		require.NoError(t, err)
		golden(t, name, messageJSON(t, m))
	}
	m, err := messages.Encode(everything())
	require.NoError(t, err)
	messages.EncodeDeadLetter(m, deadLetter())
	golden(t, "message-dead", messageJSON(t, m))
}

func messageJSON(t *testing.T, m *messages.Message) []byte {
	t.Helper()
	var g goldenMessage
	g.Properties.ContentType, g.Properties.ContentEncoding = m.ContentType, m.ContentEncoding
	g.Properties.CorrelationID, g.Properties.MessageID = m.CorrelationID, m.MessageID
	g.Properties.ReplyTo, g.Properties.Priority = m.ReplyTo, m.Priority
	g.Headers, g.Body = m.Headers, string(m.Body)
	out, err := json.MarshalIndent(g, "", "  ")
	require.NoError(t, err)
	return append(out, '\n')
}

func TestGoldenResults(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 1, 14, 33, 871606000, time.UTC)
	running := messages.Result{
		TaskID: "an-id", RootID: "an-id", Name: "proj.add", Args: json.RawMessage(`[1,2]`), Kwargs: json.RawMessage(`{}`),
		Worker: "host-1-abc", Queue: "default", DateCreated: at, DateStarted: at.Add(time.Second),
	}
	with := func(change func(r *messages.Result)) *messages.Result {
		r := running
		change(&r)
		return &r
	}
	failure := &messages.TaskError{Type: "ResizeError", Message: "no image", Traceback: "goroutine 1 [running]"}
	for name, r := range map[string]*messages.Result{
		"result-pending": {TaskID: "an-id", State: messages.Pending, Name: "proj.add", Queue: "default", DateCreated: at, ETA: at.Add(time.Hour)},
		"result-started": with(func(r *messages.Result) {
			r.State, r.Value = messages.Started, json.RawMessage(`{"pid":1,"hostname":"host-1-abc"}`)
		}),
		"result-progress": with(func(r *messages.Result) {
			r.State, r.Progress = messages.Progress, &messages.ProgressInfo{Current: 1, Total: 4, Percent: 25, Meta: json.RawMessage(`{"file":"a"}`)}
		}),
		"result-retry": with(func(r *messages.Result) {
			r.State, r.Error, r.Retries, r.NextAttempt = messages.Retry, failure, 1, at.Add(time.Minute)
		}),
		"result-success": with(func(r *messages.Result) {
			r.State, r.Value, r.DateDone = messages.Success, json.RawMessage(`{"sum":3}`), at.Add(2*time.Second)
		}),
		"result-packed": with(func(r *messages.Result) {
			r.State, r.Packed, r.PackedSize, r.DateDone = messages.Success, []byte("eJyrVspMUbIy1FEqSa0oUbJSSkxKhiClWgBylgia"), 27, at.Add(2*time.Second)
		}),
		"result-failure": with(func(r *messages.Result) {
			r.State, r.Error, r.Reason, r.DateDone = messages.Failure, failure, messages.ReasonRetriesExhausted, at.Add(2*time.Second)
		}),
		"result-revoked":    with(func(r *messages.Result) { r.State, r.DateDone = messages.Revoked, at.Add(2*time.Second) }),
		"result-everything": fullResult(),
	} {
		raw, err := messages.EncodeResult(r)
		require.NoError(t, err)
		golden(t, name, append(raw, '\n'))
	}
}
