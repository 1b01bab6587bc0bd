package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
)

// attempt runs one attempt of fn within the middleware.
func attempt(t *testing.T, log *zap.Logger, fn worker.Func, around ...worker.Middleware) (json.RawMessage, error) {
	t.Helper()
	for _, m := range slices.Backward(around) {
		fn = m(fn)
	}
	task := &messages.Task{ID: "t", Name: "n"}
	return fn(worker.WithTask(t.Context(), task, log, nil), task)
}

func succeeds(context.Context, *messages.Task) (json.RawMessage, error) {
	return json.RawMessage("1"), nil
}

func fails(context.Context, *messages.Task) (json.RawMessage, error) {
	return nil, errors.New("no")
}

func panics(context.Context, *messages.Task) (json.RawMessage, error) { panic("boom") }

func TestRecoverMakesAnErrorOfAPanic(t *testing.T) {
	t.Parallel()
	_, err := attempt(t, nil, panics, worker.Recover())
	var p *worker.PanicError
	require.ErrorAs(t, err, &p)
	require.Equal(t, "boom", p.Reason)
	require.Contains(t, string(p.Stack), "middleware_test.go")
	value, err := attempt(t, nil, succeeds, worker.Recover())
	require.NoError(t, err)
	require.JSONEq(t, "1", string(value))
}

func TestLogWritesALineAnAttempt(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zap.InfoLevel)
	for _, fn := range []worker.Func{succeeds, fails, panics} {
		_, _ = attempt(t, zap.New(core), fn, worker.Log(), worker.Recover())
	}
	var said []string
	for _, line := range lines.All() {
		said = append(said, line.Level.String()+" "+line.Message)
		require.Contains(t, line.ContextMap(), "took")
	}
	require.Equal(t, []string{"info attempt succeeded", "warn attempt failed", "warn attempt failed"}, said)
}
