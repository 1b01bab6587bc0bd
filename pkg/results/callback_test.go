package results_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestACallbackIsHandedOutWhenItIsDueOnceInALease(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	ctx := t.Context()
	for id, due := range map[string]time.Time{"now": time.Now(), "later": time.Now().Add(time.Hour), "also now": time.Now().Add(-time.Second)} {
		added, err := s.AddCallback(ctx, results.Callback{ID: id, Record: []byte("of " + id)}, due, time.Hour)
		require.NoError(t, err)
		require.True(t, added)
	}
	added, err := s.AddCallback(ctx, results.Callback{ID: "later", Record: []byte("other")}, time.Now(), time.Hour)
	require.NoError(t, err)
	require.False(t, added, "the first one stands")

	const lease = time.Minute
	taken, err := s.TakeCallbacks(ctx, 1, lease)
	require.NoError(t, err)
	require.Equal(t, []results.Callback{{ID: "also now", Record: []byte("of also now")}}, taken, "the oldest first")
	taken, err = s.TakeCallbacks(ctx, 10, lease)
	require.NoError(t, err)
	require.Equal(t, []results.Callback{{ID: "now", Record: []byte("of now")}}, taken)
	taken, err = s.TakeCallbacks(ctx, 10, lease)
	require.NoError(t, err)
	require.Empty(t, taken)

	require.NoError(t, s.HastenCallbacks(ctx, "later", "unknown"))
	taken, err = s.TakeCallbacks(ctx, 10, 0)
	require.NoError(t, err)
	require.Equal(t, []results.Callback{{ID: "later", Record: []byte("of later")}}, taken)
	taken, err = s.TakeCallbacks(ctx, 10, lease)
	require.NoError(t, err)
	require.Len(t, taken, 1, "nobody has saved it within the lease")

	require.NoError(t, s.SaveCallback(ctx, results.Callback{ID: "later", Record: []byte("done")}, time.Time{}, time.Hour))
	require.NoError(t, s.SaveCallback(ctx, results.Callback{ID: "now", Record: []byte("again")}, time.Now(), time.Hour))
	taken, err = s.TakeCallbacks(ctx, 10, lease)
	require.NoError(t, err)
	require.Equal(t, []results.Callback{{ID: "now", Record: []byte("again")}}, taken)
	record, err := s.Callback(ctx, "later")
	require.NoError(t, err)
	require.Equal(t, "done", string(record))

	require.NoError(t, s.PostponeCallback(ctx, "now", time.Now().Add(-time.Second), 2*time.Hour))
	require.Greater(t, client.PTTL(ctx, "lovage:{callbacks}:of:now").Val(), time.Hour)
	taken, err = s.TakeCallbacks(ctx, 10, lease)
	require.NoError(t, err)
	require.Len(t, taken, 1)
	require.NoError(t, s.PostponeCallback(ctx, "later", time.Now(), time.Hour), "which is over, and stays so")

	require.NoError(t, s.RemoveCallback(ctx, "now"))
	require.NoError(t, s.SaveCallback(ctx, results.Callback{ID: "now", Record: []byte("late")}, time.Now(), time.Hour))
	_, err = s.Callback(ctx, "now")
	require.ErrorIs(t, err, messages.ErrNotFound)

	require.NoError(t, client.Del(ctx, "lovage:{callbacks}:of:also now").Err())
	require.NoError(t, s.HastenCallbacks(ctx, "also now"))
	taken, err = s.TakeCallbacks(ctx, 10, lease)
	require.NoError(t, err)
	require.Empty(t, taken)
	require.Zero(t, client.ZCard(ctx, "lovage:{callbacks}:due").Val(), "what is over or gone leaves nothing")
}

func TestWatcherTellsWhoeverWatchesManyTasks(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	w := results.NewWatcher(client, nil)
	runs(t, w.Run)
	changed := make(chan string, 10)
	stop := w.OnChange("t", func() { changed <- "t" })
	defer w.OnChange("u", func() { changed <- "u" })()
	require.ElementsMatch(t, []string{"t", "u"}, []string{<-changed, <-changed}, "once the watches are in force")
	claim(t, s, messages.Attempt{ID: "t"}, "A")
	require.Equal(t, "t", <-changed)
	stop()
	claim(t, s, messages.Attempt{ID: "u"}, "A")
	require.Equal(t, "u", <-changed)
}
