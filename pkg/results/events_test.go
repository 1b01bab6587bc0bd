package results_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// told are the events after a position, as "id state".
func told(t *testing.T, s *results.Store, after string) (list []string) {
	t.Helper()
	events, _, err := s.Events(t.Context(), after, 1000)
	require.NoError(t, err)
	for _, e := range events {
		list = append(list, e.TaskID+" "+string(e.State))
	}
	return list
}

func TestEveryChangeIsToldInOrderWhileSomebodyListens(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	from, err := s.ListenEvents(t.Context())
	require.NoError(t, err)
	recorder := results.NewRecorder(s, 10)
	runs(t, recorder.Run)
	require.True(t, recorder.Record(record("t", messages.Pending, "")))
	require.Eventually(t, func() bool { return len(told(t, s, from)) == 1 }, 10*time.Second, time.Millisecond)

	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	progress := record("t", messages.Progress, "A")
	require.NoError(t, s.Progress(t.Context(), a, "A", progress))
	require.NoError(t, settle(t, s, a, "A", messages.Retry, messages.NextRetry))
	again := messages.Attempt{ID: "t", Number: 1}
	claim(t, s, again, "B")
	require.NoError(t, settle(t, s, again, "B", messages.Failure, ""))
	require.Error(t, settle(t, s, again, "B", messages.Success, ""))
	require.True(t, recorder.Record(record("t", messages.Pending, "")), "a record that is there already wins, and is no change")

	rerun := record("t", messages.Pending, "")
	rerun.Run = 1
	_, err = s.Restart(t.Context(), rerun, false)
	require.NoError(t, err)
	_, _, err = s.Cancel(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, []string{
		"t PENDING", "t STARTED", "t PROGRESS", "t RETRY", "t STARTED", "t FAILURE", "t PENDING", "t REVOKED",
	}, told(t, s, from))

	events, position, err := s.Events(t.Context(), from, 2)
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Equal(t, events[1].Position, position, "from where to go on")
	require.Equal(t, "proj.add", events[0].Name)
	require.Equal(t, "default", events[0].Queue)
	require.WithinDuration(t, time.Now(), events[0].At, time.Minute)
	require.Equal(t, []string{
		"t PROGRESS", "t RETRY", "t STARTED", "t FAILURE", "t PENDING", "t REVOKED",
	}, told(t, s, position))
}

func TestAResultThatIsIgnoredIsNotTold(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	from, err := s.ListenEvents(t.Context())
	require.NoError(t, err)
	a := messages.Attempt{ID: "t"}
	_, err = s.Claim(t.Context(), a, "A", nil)
	require.NoError(t, err)
	require.NoError(t, s.Settle(t.Context(), results.Settlement{Attempt: a, Token: "A", Result: record("t", messages.Success, "A"), IgnoreResult: true}))
	require.Empty(t, told(t, s, from))
}

func TestNothingIsToldWhileNobodyListens(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	require.NoError(t, settle(t, s, a, "A", messages.Success, ""))
	require.Zero(t, client.Exists(t.Context(), "lovage:events").Val())

	from, err := s.ListenEvents(t.Context())
	require.NoError(t, err)
	listened, n := time.Now(), 0
	require.Eventually(t, func() bool {
		n++
		claim(t, s, messages.Attempt{ID: fmt.Sprint(n)}, "B")
		return len(told(t, s, from)) > 0
	}, 10*time.Second, 10*time.Millisecond, "who has asked a moment ago need not ask again")
	require.Less(t, time.Since(listened), results.EventsLag+5*time.Second)
}

func TestEventsThatAreGoneAreMissed(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	_, _, err := s.Events(t.Context(), "0-1", 10)
	require.ErrorIs(t, err, results.ErrEventsGone, "nobody has listened")
	require.ErrorIs(t, s.KeepEvents(t.Context()), results.ErrEventsGone)

	first, err := s.ListenEvents(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.KeepEvents(t.Context()))
	require.Empty(t, told(t, s, first))
	_, _, err = s.Events(t.Context(), "0-1", 10)
	require.ErrorIs(t, err, results.ErrEventsGone, "before anybody listened")

	second, err := s.ListenEvents(t.Context())
	require.NoError(t, err)
	require.Empty(t, told(t, s, first), "a second listener is no gap")
	require.NoError(t, client.XTrimMaxLen(t.Context(), "lovage:events", 1).Err())
	_, _, err = s.Events(t.Context(), first, 10)
	require.ErrorIs(t, err, results.ErrEventsGone)
	require.Empty(t, told(t, s, second))

	ttl := client.PTTL(t.Context(), "lovage:events").Val()
	require.Positive(t, ttl)
	require.LessOrEqual(t, ttl, 5*time.Minute)
	for _, wrong := range []string{"", "x", "1", "1-x", "-1-1"} {
		_, _, err := s.Events(t.Context(), wrong, 10)
		invalid := new(messages.InvalidError)
		require.ErrorAs(t, err, &invalid, wrong)
	}
}

func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	from, err := s.ListenEvents(t.Context())
	require.NoError(t, err)
	pipe := client.Pipeline()
	for i := range 60_000 {
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: "lovage:events", Values: []string{"i", fmt.Sprintf("filler %d", i), "s", "SUCCESS"}})
	}
	_, err = pipe.Exec(t.Context())
	require.NoError(t, err)
	claim(t, s, messages.Attempt{ID: "t"}, "A")
	require.LessOrEqual(t, client.XLen(t.Context(), "lovage:events").Val(), int64(50_200))
	_, _, err = s.Events(t.Context(), from, 10)
	require.ErrorIs(t, err, results.ErrEventsGone)
}

func TestWatcherTellsOfEvents(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	w := results.NewWatcher(client, zaptest.NewLogger(t))
	runs(t, w.Run)
	changed, stop := w.WatchEvents()
	defer stop()
	requireNotice(t, changed, "once the watch is in force")
	_, err := s.ListenEvents(t.Context())
	require.NoError(t, err)
	claim(t, s, messages.Attempt{ID: "t"}, "A")
	requireNotice(t, changed)
}
