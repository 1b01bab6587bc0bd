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

func requireNotice(t *testing.T, changed <-chan struct{}, msg ...any) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no notice", msg...)
	}
}

// subscribers is how many connections are subscribed to the task's channel.
func subscribers(t *testing.T, client redis.UniversalClient, id string) int64 {
	t.Helper()
	channel := messages.ResultKey(id)
	return client.PubSubNumSub(t.Context(), channel).Val()[channel]
}

func TestWatcherTellsOfEachChange(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	w := results.NewWatcher(client, zaptest.NewLogger(t))
	runs(t, w.Run)
	changed, stop := w.Watch("t")
	defer stop()
	other, stopOther := w.Watch("other")
	defer stopOther()
	requireNotice(t, changed, "once the watch is in force")
	requireNotice(t, other)

	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	requireNotice(t, changed)
	require.NoError(t, settle(t, s, a, "A", messages.Success, ""))
	requireNotice(t, changed)
	require.Empty(t, other, "not its task")
}

func TestWatcherIsSubscribedOnlyToWhatIsWatched(t *testing.T) {
	t.Parallel()
	_, client := newStore(t)
	w := results.NewWatcher(client, nil)
	runs(t, w.Run)
	first, stopFirst := w.Watch("t")
	requireNotice(t, first)
	second, stopSecond := w.Watch("t")
	requireNotice(t, second, "a watch that joins one in force must read once")
	require.EqualValues(t, 1, subscribers(t, client, "t"))

	stopFirst()
	stopFirst()
	require.NoError(t, client.Publish(t.Context(), messages.ResultKey("t"), "x").Err())
	requireNotice(t, second)
	stopSecond()
	require.Eventually(t, func() bool { return subscribers(t, client, "t") == 0 }, 10*time.Second, 5*time.Millisecond)

	third, stopThird := w.Watch("t")
	requireNotice(t, third, "and again")
	stopThird()
}

func TestWatcherHoldsOneConnectionForManyTasks(t *testing.T) {
	t.Parallel()
	_, client := newStore(t)
	w := results.NewWatcher(client, nil)
	var watches []<-chan struct{}
	for i := range 1200 {
		changed, stop := w.Watch(fmt.Sprintf("t%d", i))
		defer stop()
		watches = append(watches, changed)
	}
	runs(t, w.Run)
	for _, changed := range watches {
		requireNotice(t, changed)
	}
	list := client.Do(t.Context(), "client", "list", "type", "pubsub").String()
	require.Contains(t, list, "sub=1200 ")
}

func TestWatcherNeverBlocksOnAWatchThatNobodyReads(t *testing.T) {
	t.Parallel()
	_, client := newStore(t)
	w := results.NewWatcher(client, nil)
	runs(t, w.Run)
	idle, stopIdle := w.Watch("t")
	defer stopIdle()
	requireNotice(t, idle)
	busy, stopBusy := w.Watch("t")
	defer stopBusy()
	requireNotice(t, busy)
	for range 50 {
		require.NoError(t, client.Publish(t.Context(), messages.ResultKey("t"), "x").Err())
		requireNotice(t, busy)
	}
}

func TestWatcherTellsOfWhatItMayHaveMissedWhileRedisWasGone(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	client := open(t, server.URL()+patient)
	w := results.NewWatcher(client, zaptest.NewLogger(t))
	runs(t, w.Run)
	changed, stop := w.Watch("t")
	defer stop()
	requireNotice(t, changed)

	for range 2 {
		server.kill()
		during, stopDuring := w.Watch("during")
		server.start()
		requireNotice(t, changed, "after the reconnection")
		requireNotice(t, during, "a watch that began during the outage")
		stopDuring()
		require.Eventually(t, func() bool {
			return client.Publish(t.Context(), messages.ResultKey("t"), "x").Val() == 1
		}, 10*time.Second, 10*time.Millisecond)
		requireNotice(t, changed)
	}
}

func TestWatcherFindsASilentConnection(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	client := open(t, server.URL()+patient)
	w := results.NewWatcher(client, zaptest.NewLogger(t))
	w.SetPulse(100 * time.Millisecond)
	runs(t, w.Run)
	changed, stop := w.Watch("t")
	defer stop()
	requireNotice(t, changed)
	before := client.ClientList(t.Context()).Val()
	require.NotEmpty(t, before)

	server.freeze()
	require.Eventually(t, func() bool { return w.Down() }, 10*time.Second, 10*time.Millisecond)
	server.thaw()
	requireNotice(t, changed)
}

func TestWatcherEndsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	client := open(t, server.URL()+patient)
	server.kill()
	for range 20 {
		w := results.NewWatcher(client, nil)
		_, stopWatch := w.Watch("t")
		stop := runs(t, w.Run)
		stop()
		stopWatch()
	}
}
