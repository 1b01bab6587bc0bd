package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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

// hanging is a way to the store on which STARTED hangs until it is released.
type hanging struct {
	hangs   chan struct{} // closed when it does
	once    sync.Once
	release chan struct{}
}

func (*hanging) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*hanging) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *hanging) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if strings.Contains(fmt.Sprint(cmds), string(messages.Started)) {
			h.once.Do(func() { close(h.hangs) })
			<-h.release
		}
		return next(ctx, cmds)
	}
}

// A handler that has to stop does not wait for a STARTED that hangs.
func TestProgressEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b, task := newBench(t), newTask()
	store := &hanging{hangs: make(chan struct{}), release: make(chan struct{})}
	b.client.AddHook(store)
	p := delivery.New(delivery.Options{
		Store: b.store, Publisher: b.broker, Worker: "w1", Lease: time.Minute, StartedAfter: time.Millisecond, Log: zaptest.NewLogger(t),
	})
	p.Process(t.Context(), t.Context(), b.delivery(task),
		func(ctx context.Context, _ *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
			defer close(store.release)
			<-store.hangs
			ctx, stop := context.WithCancel(ctx)
			stop()
			answer := make(chan error, 1)
			go func() { answer <- progress(ctx, messages.ProgressInfo{Current: 1, Total: 2}) }()
			select {
			case err := <-answer:
				require.ErrorIs(t, err, context.Canceled)
			case <-time.After(patience):
				t.Error("it waits")
			}
			return delivery.Outcome{State: messages.Success}
		})
}
