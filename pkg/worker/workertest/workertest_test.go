package workertest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
	"github.com/lovage-mq/lovage/pkg/worker/workertest"
)

type in struct {
	Failures int  `json:"failures" jsonschema:"minimum=0,default=0"`
	Hopeless bool `json:"hopeless,omitempty"`
	Hang     bool `json:"hang,omitempty"`
}

func tasks() *worker.Worker {
	w := worker.New(worker.Options{Middleware: []worker.Middleware{worker.Recover()}})
	worker.Handle(w, "try", func(ctx context.Context, in in) (string, error) {
		if err := worker.Progress(ctx, 1, 2, "half"); err != nil {
			return "", err
		}
		switch {
		case in.Hang:
			<-ctx.Done()
			return "", ctx.Err()
		case in.Hopeless:
			return "", worker.Permanent(errors.New("hopeless"))
		case worker.Attempt(ctx) <= in.Failures:
			return "", worker.RetryAfter(time.Hour, errors.New("not yet"))
		}
		return worker.Token(ctx), nil
	}, worker.WithMaxRetries(2))
	return w
}

func TestASuccessHasItsResultAndItsProgress(t *testing.T) {
	t.Parallel()
	run := workertest.Do(t, tasks(), "try", in{}, func(t *messages.Task) { t.ID = "me" })
	require.Equal(t, messages.Success, run.State)
	var token string
	run.Decode(&token)
	require.Equal(t, "me:0", token)
	require.Len(t, run.Attempts, 1)
	require.Len(t, run.Attempts[0].Progress, 1)
	require.InDelta(t, 50, run.Attempts[0].Progress[0].Percent, 0)
	require.Empty(t, run.Reason)
}

func TestRetriesDoNotWait(t *testing.T) {
	t.Parallel()
	run := workertest.Do(t, tasks(), "try", in{Failures: 2})
	require.Equal(t, messages.Success, run.State)
	require.Len(t, run.Attempts, 3)
	require.Equal(t, messages.Retry, run.Attempts[0].State)
	require.Equal(t, time.Hour, run.Attempts[0].RetryIn)
	require.Equal(t, "not yet", run.Attempts[1].Error.Message)

	run = workertest.Do(t, tasks(), "try", in{Failures: 3})
	require.Equal(t, messages.Failure, run.State)
	require.Equal(t, messages.ReasonRetriesExhausted, run.Reason)
}

func TestWhatNoRetryMendsIsADeadLetter(t *testing.T) {
	t.Parallel()
	for reason, input := range map[messages.Reason]any{
		messages.ReasonPermanent:    in{Hopeless: true},
		messages.ReasonInvalidInput: map[string]any{"failures": -1},
	} {
		run := workertest.Do(t, tasks(), "try", input)
		require.Equal(t, messages.Failure, run.State)
		require.Equal(t, reason, run.Reason)
		require.NotEmpty(t, run.Error.Message)
		require.Len(t, run.Attempts, 1)
	}
	require.Equal(t, messages.ReasonUnknownTask, workertest.Do(t, tasks(), "nobody's", in{}).Reason)
}

func TestResultsAreBoundedAndCompressed(t *testing.T) {
	t.Parallel()
	w := worker.New(worker.Options{MaxResult: 1002, CompressAbove: 1})
	text := func(_ context.Context, in struct {
		N int `json:"n"`
	},
	) (string, error) {
		return strings.Repeat("x", in.N), nil
	}
	worker.Handle(w, "text", text)
	worker.Handle(w, "plain", text, worker.WithCompression(0))
	for _, name := range []string{"text", "plain"} {
		run := workertest.Do(t, w, name, map[string]int{"n": 1000})
		var got string
		run.Decode(&got)
		require.Len(t, got, 1000)
		run = workertest.Do(t, w, name, map[string]int{"n": 1001})
		require.Equal(t, messages.ReasonPermanent, run.Reason)
		require.Equal(t, "ResultTooLargeError", run.Error.Type)
		require.Contains(t, run.Error.Message, "1003 bytes, the limit is 1002")
		require.Contains(t, run.Error.Message, "MaxResult")
	}
	require.Panics(t, func() { worker.Handle(w, "wrong", text, worker.WithCompression(-1)) })
}

func TestLimitsHold(t *testing.T) {
	t.Parallel()
	run := workertest.Do(t, tasks(), "try", in{Hang: true}, func(t *messages.Task) { t.TimeLimit = 10 * time.Millisecond })
	require.Equal(t, messages.Failure, run.State)
	require.Equal(t, "TimeLimitExceeded", run.Error.Type)
}

func TestExpiredTasksDoNotRun(t *testing.T) {
	t.Parallel()
	run := workertest.Do(t, tasks(), "try", in{}, func(t *messages.Task) { t.Expires = time.Now().Add(-time.Second) })
	require.Equal(t, messages.Revoked, run.State)
	require.Empty(t, run.Attempts)
}
