package results_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func entry(name, description string) messages.CatalogEntry {
	return messages.CatalogEntry{
		Name: name, Queue: "default", Description: description, Params: []string{"x"},
		Input: json.RawMessage(`{"type":"object"}`), MaxRetries: 3,
	}
}

// seen is name, description and the number of live workers.
type seen struct {
	name, description string
	alive             int
}

// die ends the signs of life of the worker w1 as their end of time would.
func die(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	require.NoError(t, client.Del(t.Context(), "lovage:worker:w1", "lovage:worker:w1:tasks").Err())
}

// age makes every entry of the catalog of this description so much older.
func age(t *testing.T, client redis.UniversalClient, description string, by time.Duration) {
	t.Helper()
	for field, value := range client.HGetAll(t.Context(), "lovage:catalog").Val() {
		var e messages.CatalogEntry
		require.NoError(t, json.Unmarshal([]byte(value), &e))
		if e.Description != description {
			continue
		}
		e.AnnouncedAt = e.AnnouncedAt.Add(-by)
		text, err := json.Marshal(e)
		require.NoError(t, err)
		require.NoError(t, client.HSet(t.Context(), "lovage:catalog", field, text).Err())
	}
}

func TestCatalogHoldsEveryLiveVersionAndTheLastOfTheDead(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	ctx := t.Context()
	read := func() []seen {
		entries, err := s.Catalog(ctx)
		require.NoError(t, err)
		var out []seen
		for _, e := range entries {
			out = append(out, seen{e.Name, e.Description, e.Alive})
		}
		return out
	}
	require.Empty(t, read())
	w1, w2, w3 := messages.WorkerInfo{Name: "w1"}, messages.WorkerInfo{Name: "w2"}, messages.WorkerInfo{Name: "w3"}
	require.NoError(t, s.Announce(ctx, w1, []messages.CatalogEntry{entry("b", "old"), entry("a", "")}))
	require.Equal(t, []seen{{"a", "", 1}, {"b", "old", 1}}, read())
	require.NoError(t, s.Announce(ctx, w2, []messages.CatalogEntry{entry("b", "new")}))
	require.NoError(t, s.Announce(ctx, w3, []messages.CatalogEntry{entry("b", "new")}))
	require.Equal(t, []seen{{"a", "", 1}, {"b", "new", 2}, {"b", "old", 1}}, read())

	die(t, client)
	require.Equal(t, []seen{{"a", "", 0}, {"b", "new", 2}}, read())
	require.NoError(t, s.Heartbeat(ctx, w1), "it was only slow")
	require.Equal(t, []seen{{"a", "", 1}, {"b", "new", 2}, {"b", "old", 1}}, read())

	for _, w := range []messages.WorkerInfo{w2, w3} {
		require.NoError(t, s.Leave(ctx, w))
	}
	require.Equal(t, []seen{{"a", "", 1}, {"b", "old", 1}}, read(), "the version that runs")
	require.NoError(t, s.Leave(ctx, w1))
	require.Equal(t, []seen{{"a", "", 0}, {"b", "new", 0}}, read(), "scaled to zero: the one announced last")

	entries, err := s.Catalog(ctx)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), entries[0].AnnouncedAt, time.Minute)
	want := entry("a", "")
	want.AnnouncedAt = entries[0].AnnouncedAt
	require.Equal(t, want, entries[0])
}

func TestCatalogForgetsSupersededVersionsAfterADay(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	ctx := t.Context()
	w1, w2 := messages.WorkerInfo{Name: "w1"}, messages.WorkerInfo{Name: "w2"}
	announce := func(w messages.WorkerInfo, entries ...messages.CatalogEntry) {
		require.NoError(t, s.Announce(ctx, w, entries))
	}
	fields := func() int64 { return client.HLen(ctx, "lovage:catalog").Val() }
	announce(w1, entry("x", "old"), entry("lonely", "old"))
	announce(w2, entry("x", "new"))
	age(t, client, "old", 25*time.Hour)
	announce(w2, entry("x", "new"))
	require.EqualValues(t, 3, fields(), "the old one is still run")
	die(t, client)
	announce(w2, entry("x", "new"))
	require.EqualValues(t, 2, fields(), "but nothing replaces the lonely one")

	announce(w1, entry("x", "old"))
	die(t, client)
	age(t, client, "old", 23*time.Hour)
	announce(w2, entry("x", "new"))
	require.EqualValues(t, 3, fields(), "not a day yet")
}

func TestHeartbeatSaysAgainWhatRedisHasLost(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	client := open(t, server.URL()+patient)
	s := storeOn(t, client)
	ctx := t.Context()
	w := messages.WorkerInfo{Name: "w", Slots: 7}
	server.kill()
	require.ErrorIs(t, s.Announce(ctx, w, []messages.CatalogEntry{entry("x", "")}), messages.ErrStoreUnavailable)
	require.ErrorIs(t, s.Heartbeat(ctx, w), messages.ErrStoreUnavailable)
	server.start()
	for range 2 {
		require.NoError(t, s.Heartbeat(ctx, w))
		entries, err := s.Catalog(ctx)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Equal(t, 1, entries[0].Alive)
		require.NoError(t, client.FlushAll(ctx).Err())
	}
	require.NoError(t, s.Leave(ctx, w))
	require.NoError(t, s.Heartbeat(ctx, w))
	entries, err := s.Catalog(ctx)
	require.NoError(t, err)
	require.Empty(t, entries, "it has left")
}

func TestWorkersAreThoseThatShowLife(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	ctx := t.Context()
	for _, name := range []string{"w2", "w1"} {
		require.NoError(t, s.Heartbeat(ctx, messages.WorkerInfo{Name: name, Busy: 3, Queues: []string{"default"}}))
	}
	workers, err := s.Workers(ctx)
	require.NoError(t, err)
	require.Len(t, workers, 2)
	require.Equal(t, "w1", workers[0].Name)
	require.Equal(t, 3, workers[0].Busy)
	require.WithinDuration(t, time.Now(), workers[0].LastSeen, time.Minute)
	require.InDelta(t, 15, client.PTTL(ctx, "lovage:worker:w1").Val().Seconds(), 5)

	die(t, client)
	require.NoError(t, client.ZAdd(ctx, "lovage:workers", redis.Z{Score: 1, Member: "long gone"}).Err())
	workers, err = s.Workers(ctx)
	require.NoError(t, err)
	require.Len(t, workers, 1)
	require.ElementsMatch(t, []string{"w1", "w2"}, client.ZRange(ctx, "lovage:workers", 0, -1).Val(),
		"w1 may only be slow, the other is forgotten")
	require.NoError(t, s.Leave(ctx, messages.WorkerInfo{Name: "w2"}))
	workers, err = s.Workers(ctx)
	require.NoError(t, err)
	require.Empty(t, workers)
}

func TestUnreadableEntriesAreLeftOut(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	ctx := t.Context()
	require.NoError(t, s.Announce(ctx, messages.WorkerInfo{Name: "w"}, []messages.CatalogEntry{entry("x", "")}))
	require.NoError(t, s.Heartbeat(ctx, messages.WorkerInfo{Name: "v"}))
	require.NoError(t, client.HSet(ctx, "lovage:catalog", "y@1", "{").Err())
	require.NoError(t, client.Set(ctx, "lovage:worker:v", "{", time.Minute).Err())
	require.NoError(t, client.Set(ctx, "lovage:worker:v:tasks", "{", time.Minute).Err())
	entries, err := s.Catalog(ctx)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	workers, err := s.Workers(ctx)
	require.NoError(t, err)
	require.Len(t, workers, 1)
}
