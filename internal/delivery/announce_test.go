package delivery_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// announced runs a task and returns the states that were published, in order.
func announced(t *testing.T, startedAfter time.Duration, handle func(*bench, *messages.Task, delivery.ProgressFunc)) []messages.State {
	t.Helper()
	b, task := newBench(t), newTask()
	sub := b.client.Subscribe(t.Context(), messages.ResultKey(task.ID))
	t.Cleanup(func() { _ = sub.Close() })
	_, err := sub.Receive(t.Context()) // it has begun
	require.NoError(t, err)
	p := delivery.New(delivery.Options{
		Store: b.store, Publisher: b.broker, Worker: "w1", Lease: time.Minute, StartedAfter: startedAfter, Log: zaptest.NewLogger(t),
	})
	p.Process(t.Context(), t.Context(), b.delivery(task),
		func(_ context.Context, task *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
			handle(b, task, progress)
			return delivery.Outcome{State: messages.Success}
		})
	for states := []messages.State{}; ; {
		m, err := sub.ReceiveMessage(t.Context())
		require.NoError(t, err)
		r, err := messages.DecodeResult([]byte(m.Payload))
		require.NoError(t, err)
		if states = append(states, r.State); r.State.Final() {
			return states
		}
	}
}

func TestAQuickTaskIsNotSaidToHaveStarted(t *testing.T) {
	t.Parallel()
	require.Equal(t, []messages.State{messages.Success},
		announced(t, time.Hour, func(*bench, *messages.Task, delivery.ProgressFunc) {}))
}

func TestATaskThatRunsIsSaidToHaveStarted(t *testing.T) {
	t.Parallel()
	require.Equal(t, []messages.State{messages.Started, messages.Success},
		announced(t, time.Millisecond, func(b *bench, task *messages.Task, _ delivery.ProgressFunc) {
			require.Eventually(t, func() bool {
				r, err := b.store.Get(t.Context(), task.ID)
				return err == nil && r.State == messages.Started && r.Worker == "w1"
			}, patience, time.Millisecond)
		}))
}

// What says more than STARTED is not followed by it.
func TestProgressIsNotFollowedByStarted(t *testing.T) {
	t.Parallel()
	require.Equal(t, []messages.State{messages.Progress, messages.Success},
		announced(t, time.Second, func(_ *bench, _ *messages.Task, progress delivery.ProgressFunc) {
			require.NoError(t, progress(t.Context(), messages.ProgressInfo{Current: 1, Total: 2}))
			<-time.After(1200 * time.Millisecond)
		}))
}
