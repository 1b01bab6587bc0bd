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

// guarding returns a processor that exchanges deliveries at once.
func (b *bench) guarding() *delivery.Processor {
	return delivery.New(delivery.Options{
		Store: b.store, Publisher: b.broker, Worker: "w1", Lease: time.Minute, GuardAfter: time.Millisecond, Log: zaptest.NewLogger(b.t),
	})
}

// A task that runs for longer than the broker lets a delivery be held is carried
// on by its lease, with a copy that waits for the case that the worker dies.
func TestALongTaskExchangesItsDeliveryForACopy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	b.guarding().Process(t.Context(), t.Context(), b.delivery(task),
		func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
			require.Eventually(t, func() bool { return len(b.broker.all()) == 2 }, patience, time.Millisecond)
			events := b.broker.take()
			require.Equal(t, []string{"enqueue", "ack"}, whats(events), "the copy is confirmed before the ack")
			require.Equal(t, task.Attempt(), events[0].task.Attempt())
			require.Equal(t, time.Minute, events[0].delay)
			// The copy comes while the task runs, and later again.
			b.another("w2").Process(t.Context(), t.Context(), b.delivery(events[0].task), b.never())
			require.Equal(t, []string{"enqueue", "ack"}, whats(b.broker.take()))
			return delivery.Outcome{State: messages.Success}
		})
	require.Empty(t, b.broker.take(), "nothing is left to ack")
	require.Equal(t, messages.Success, b.record(task.ID).State)
	b.processor.Process(t.Context(), t.Context(), b.delivery(task), b.never())
	require.Equal(t, []string{"ack"}, whats(b.broker.take()), "the copy that comes afterwards")
}

// An exchanged delivery that is interrupted is run by its copy.
func TestAnInterruptedLongTaskIsLeftToItsCopy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	task := newTask()
	b.guarding().Process(t.Context(), t.Context(), b.delivery(task),
		func(context.Context, *messages.Task, delivery.ProgressFunc) delivery.Outcome {
			require.Eventually(t, func() bool { return len(b.broker.all()) == 2 }, patience, time.Millisecond)
			b.broker.take()
			return delivery.Outcome{}
		})
	require.Empty(t, b.broker.take())
	b.process(task, delivery.Outcome{State: messages.Success})
	require.Equal(t, messages.Success, b.record(task.ID).State)
}
