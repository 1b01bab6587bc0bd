package results_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestAWorkerShowsTheTasksThatItHasRunForLongest(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	w := messages.WorkerInfo{Name: "w1", Slots: 200, Memory: messages.WorkerMemory{RSS: 1 << 20}}
	for i := range 150 {
		w.Running = append(w.Running, messages.RunningTask{TaskID: fmt.Sprint("t", i)})
	}
	require.NoError(t, s.Announce(t.Context(), w, nil))
	list, err := s.Workers(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, w.Running[:5], list[0].Running)
	require.Equal(t, w.Memory, list[0].Memory)
	one, err := s.Worker(t.Context(), "w1")
	require.NoError(t, err)
	require.Equal(t, w.Running[:100], one.Running)
	require.Len(t, w.Running, 150, "what was given is as it was")

	w.Running = w.Running[:2]
	require.NoError(t, s.Heartbeat(t.Context(), w))
	one, err = s.Worker(t.Context(), "w1")
	require.NoError(t, err)
	require.Equal(t, w.Running, one.Running)

	require.NoError(t, s.Leave(t.Context(), w))
	_, err = s.Worker(t.Context(), "w1")
	require.ErrorIs(t, err, messages.ErrNotFound)
	require.Empty(t, client.Keys(t.Context(), "lovage:worker:w1*").Val())
}

// runWatcher runs a watcher until the test is over.
func runWatcher(t *testing.T, w *results.Watcher) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

func TestAWorkerHearsWhatItIsToldAndAnswers(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	w := results.NewWatcher(client, zaptest.NewLogger(t))
	runWatcher(t, w)
	require.NoError(t, s.Announce(t.Context(), messages.WorkerInfo{Name: "w1"}, nil))
	told, stop := w.WatchCommands("w1")
	defer stop()
	go func() {
		for range told {
			commands, err := s.TakeCommands(t.Context(), "w1")
			for _, c := range commands {
				err = s.AnswerCommand(t.Context(), c.ID, messages.WorkerAnswer{Slots: c.Slots, Dump: c.TaskID + string(c.Verb)})
			}
			if err != nil || len(commands) > 0 {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	answer, became, err := s.Tell(ctx, w, "w1", messages.WorkerCommand{Verb: messages.VerbSlots, Slots: 7, TaskID: "t1"})
	require.NoError(t, err)
	require.Equal(t, messages.Answered, became)
	require.Equal(t, messages.WorkerAnswer{Slots: 7, Dump: "t1slots"}, answer)
	_, _, err = s.Tell(ctx, w, "nobody", messages.WorkerCommand{Verb: messages.VerbStop})
	require.ErrorIs(t, err, messages.ErrNotFound)
}

// What was told in vain must not happen later, when nobody expects it any more.
func TestACommandThatNobodyTookIsTakenBack(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	w := results.NewWatcher(client, zaptest.NewLogger(t))
	runWatcher(t, w)
	require.NoError(t, s.Announce(t.Context(), messages.WorkerInfo{Name: "w1"}, nil))
	tell := func(taken func()) messages.Delivery {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, func() {
			taken()
			cancel()
		})
		_, became, err := s.Tell(ctx, w, "w1", messages.WorkerCommand{Verb: messages.VerbStop})
		require.NoError(t, err)
		return became
	}
	require.Equal(t, messages.Undelivered, tell(func() {}))
	commands, err := s.TakeCommands(t.Context(), "w1")
	require.NoError(t, err)
	require.Empty(t, commands)

	got := make(chan []messages.WorkerCommand, 1)
	require.Equal(t, messages.Taken, tell(func() {
		var commands []messages.WorkerCommand
		for len(commands) == 0 {
			commands, _ = s.TakeCommands(context.WithoutCancel(t.Context()), "w1")
		}
		got <- commands
	}))
	require.Equal(t, messages.VerbStop, (<-got)[0].Verb)
}
