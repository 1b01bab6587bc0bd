package e2e_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/client"
	"github.com/lovage-mq/lovage/pkg/worker"
)

func TestTheLinesOfATaskCanBeRead(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := worker.New(worker.Options{AMQPURL: s.amqp, RedisURL: s.redis, Queue: "talk"})
	goOn := make(chan struct{})
	worker.Handle(w, "talk", func(ctx context.Context, _ struct{}) (any, error) {
		log := worker.Logger(ctx).With(zap.String("part", "one"))
		log.Info("begins", zap.Int("size", 3))
		if worker.Attempt(ctx) == 1 {
			return nil, errors.New("not yet")
		}
		<-goOn
		log.Warn("ends")
		return nil, nil
	}, worker.WithBackoff(worker.Backoff{Waits: []time.Duration{0}}))
	s.inProcess(w)
	s.eventually(func() bool {
		return s.lovage("submit", "talk", "--id", "t1").code == 0
	}, "the task is known")
	follow := s.command("logs", "t1", "--follow")
	var lines []client.LogLine
	s.eventually(func() bool {
		log, err := s.client().Log(t.Context(), "t1")
		require.NoError(t, err)
		lines = log
		return len(lines) == 2
	}, "while it runs, too")
	close(goOn)
	out, err := follow.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `(?s)^\d{4}-\d\d-\d\d .{12}  info   begins  \{"part":"one","size":3\}\n.*  info   attempt 2: begins  .*\n.*  warn   attempt 2: ends  \{"part":"one"\}\n$`, string(out))

	s.told(&lines, "logs", "t1")
	require.Len(t, lines, 3)
	require.Equal(t, []int{1, 2, 2}, []int{lines[0].Attempt, lines[1].Attempt, lines[2].Attempt})
	require.JSONEq(t, `{"part":"one","size":3}`, string(lines[0].Fields))
	require.Empty(t, lines[0].TraceID)
	require.Equal(t, 4, s.lovage("logs", "none").code)

	status, body := s.do(http.MethodPost, "/v1/tasks/talk?task_id=traced", map[string]any{},
		http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}})
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	s.await("traced", "SUCCESS")
	s.eventually(func() bool {
		s.told(&lines, "logs", "traced")
		return len(lines) == 3
	}, "they come when it has ended")
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", lines[2].TraceID)
}
