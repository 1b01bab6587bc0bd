package results_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// runs starts something that blocks, and returns what ends it and waits.
func runs(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			require.FailNow(t, "it does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// requireRecorded waits for the record of a submission.
func requireRecorded(t *testing.T, s *results.Store, id string, msg ...any) {
	t.Helper()
	require.Eventually(t, func() bool {
		r, err := s.Get(t.Context(), id)
		return err == nil && r.State == messages.Pending
	}, 30*time.Second, 5*time.Millisecond, msg...)
}

func TestRecorderWritesSubmissions(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	recorder := results.NewRecorder(s, 1000)
	recorder.SetPatience(time.Minute)
	runs(t, recorder.Run)
	for i := range 600 {
		r := record(fmt.Sprintf("t%d", i), messages.Pending, "")
		r.ETA = time.Now().Add(24 * time.Hour)
		require.True(t, recorder.Record(r))
	}
	requireRecorded(t, s, "t599")
	require.EqualValues(t, 600, indexed(t, client))
	ttl := client.TTL(t.Context(), messages.ResultKey("t0")).Val()
	require.InDelta(t, (8 * 24 * time.Hour).Seconds(), ttl.Seconds(), 60)
	require.Zero(t, recorder.Dropped())
}

func TestRecorderNeverWritesOverWhatAWorkerKnows(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	done := messages.Attempt{ID: "done"}
	claim(t, s, done, "A")
	require.NoError(t, settle(t, s, done, "A", messages.Success, ""))

	recorder := results.NewRecorder(s, 10)
	recorder.SetPatience(time.Minute)
	runs(t, recorder.Run)
	for _, id := range []string{"done", "new"} {
		require.True(t, recorder.Record(record(id, messages.Pending, "")))
	}
	requireRecorded(t, s, "new")
	require.Equal(t, messages.Success, state(t, s, "done"))
	require.Zero(t, recorder.Dropped())
}

func TestRecorderWaitsThroughAnOutageAndDropsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	core, logs := observer.New(zap.InfoLevel)
	s := results.New(results.Options{Client: open(t, server.URL()+patient), Log: zap.New(core)})
	recorder := results.NewRecorder(s, 20)
	recorder.SetPatience(time.Minute)
	server.kill()
	runs(t, recorder.Run)

	require.True(t, recorder.Record(record("first", messages.Pending, "")))
	require.Eventually(t, func() bool { return logs.Len() == 1 }, 10*time.Second, 5*time.Millisecond)
	accepted := 0
	begin := time.Now()
	for i := range 100 {
		if recorder.Record(record(fmt.Sprintf("t%02d", i), messages.Pending, "")) {
			accepted++
		}
	}
	require.Less(t, time.Since(begin), time.Second, "it must not block")
	require.Equal(t, 20, accepted)
	require.EqualValues(t, 80, recorder.Dropped())

	server.start()
	requireRecorded(t, s, "t19")
	require.Equal(t, messages.Pending, state(t, s, "first"))
	require.EqualValues(t, 80, recorder.Dropped())
	require.Eventually(t, func() bool { return logs.Len() >= 2 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, "records of submissions wait for redis", logs.All()[0].Message)
	require.Equal(t, "records of submissions are written again", logs.All()[1].Message)
}

func TestRecorderIsAwaitedByWhoeverHasTheTime(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	recorder := results.NewRecorder(s, 1)
	recorder.SetPatience(time.Minute)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.False(t, recorder.Await(ended, record("late", messages.Pending, "")))
	runs(t, recorder.Run)
	for i := range 100 {
		require.True(t, recorder.Await(t.Context(), record(fmt.Sprintf("t%d", i), messages.Pending, "")))
	}
	require.Eventually(t, func() bool { return indexed(t, client) == 100 },
		10*time.Second, 5*time.Millisecond)
	require.EqualValues(t, 1, recorder.Dropped())
}

func TestRecorderDropsWhatIsTooOld(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	s := storeOn(t, open(t, server.URL()+patient))
	recorder := results.NewRecorder(s, 20)
	recorder.SetPatience(100 * time.Millisecond)
	server.kill()
	runs(t, recorder.Run)
	require.True(t, recorder.Record(record("old", messages.Pending, "")))
	require.Eventually(t, func() bool { return recorder.Dropped() == 1 }, 10*time.Second, 5*time.Millisecond)
	server.start()
	require.True(t, recorder.Record(record("new", messages.Pending, "")))
	require.Eventually(t, func() bool {
		_, err := s.Get(t.Context(), "new")
		return err == nil || recorder.Dropped() > 1
	}, 20*time.Second, 5*time.Millisecond)
	_, err := s.Get(t.Context(), "old")
	require.ErrorIs(t, err, messages.ErrNotFound)
}

func TestRecorderEndsInTimeWhenRedisHangs(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	s := storeOn(t, open(t, server.URL()))
	require.NoError(t, s.Ping(t.Context()))
	recorder := results.NewRecorder(s, 1000)
	server.freeze()
	defer server.thaw()
	for i := range 1000 {
		require.True(t, recorder.Record(record(fmt.Sprintf("t%d", i), messages.Pending, "")))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	require.NoError(t, recorder.Run(ctx))
	require.Less(t, time.Since(begin), 5*time.Second)
	require.EqualValues(t, 1000, recorder.Dropped(), "what is not written is counted")
}

func TestRecorderDropsWhatCannotBeARecord(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	recorder := results.NewRecorder(s, 0)
	recorder.SetPatience(time.Minute)
	runs(t, recorder.Run)
	require.True(t, recorder.Record(&messages.Result{State: messages.Pending}))
	require.Eventually(t, func() bool { return recorder.Dropped() == 1 }, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, client.Set(t.Context(), results.IndexKey(messages.Pending), "of another type", 0).Err())
	require.True(t, recorder.Record(record("t", messages.Pending, "")))
	requireRecorded(t, s, "t", "a broken index does not keep records from being written")
}
