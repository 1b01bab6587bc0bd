package results_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// operation is one on queue "q" that is held.
func operation(id string) results.Operation {
	return results.Operation{ID: id, Queue: "q", Record: []byte("record of " + id), Held: true}
}

func begin(t *testing.T, s *results.Store, o results.Operation, token string) (running string) {
	t.Helper()
	running, err := s.BeginOperation(t.Context(), o, token)
	require.NoError(t, err)
	return running
}

// endLease makes the lease of an operation end now.
func endLease(t *testing.T, client redis.UniversalClient, id string) {
	t.Helper()
	require.NoError(t, client.Del(t.Context(), "lovage:{operations}:lease:"+id).Err())
}

// end ends an operation.
func end(t *testing.T, s *results.Store, o results.Operation, token, state string) {
	t.Helper()
	o.State, o.Held = state, false
	_, err := s.SaveOperation(t.Context(), o, token)
	require.NoError(t, err)
}

func operations(t *testing.T, s *results.Store) (listed, open []results.Operation) {
	t.Helper()
	listed, err := s.Operations(t.Context(), "q")
	require.NoError(t, err)
	open, err = s.OpenOperations(t.Context())
	require.NoError(t, err)
	return listed, open
}

func TestAQueueHasOneOperationAtATime(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	answers := make([]string, 20)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i], _ = s.BeginOperation(t.Context(), operation(fmt.Sprint(i)), "token") })
	}
	wg.Wait()
	listed, open := operations(t, s)
	require.Len(t, listed, 1)
	require.Equal(t, listed, open)
	require.True(t, open[0].Held)
	begun := 0
	for _, running := range answers {
		if running == "" {
			begun++
			continue
		}
		require.Equal(t, open[0].ID, running, "the others are told of it")
	}
	require.Equal(t, 1, begun)

	other := operation("other")
	other.Queue = "p"
	require.Empty(t, begin(t, s, other, "token"))
	endLease(t, client, open[0].ID)
	require.Equal(t, open[0].ID, begin(t, s, operation("x"), "token"), "nobody works on it, and it has not ended")
	end(t, s, operation(open[0].ID), "token", "done")
	require.Empty(t, begin(t, s, operation("x"), "token"))
	require.Empty(t, begin(t, s, operation("x"), "token"), "again is harmless")
	listed, open = operations(t, s)
	require.Len(t, listed, 2)
	require.Len(t, open, 2)
	require.Equal(t, "x", listed[0].ID, "the newest is the first")
	require.Equal(t, "done", listed[1].State)
}

func TestAnOperationIsTakenOverWhenNobodyHoldsIt(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	begin(t, s, operation("o"), "A")
	_, err := s.TakeOperation(t.Context(), "o", "B")
	require.ErrorIs(t, err, messages.ErrLost)

	endLease(t, client, "o")
	o := operation("o")
	o.Record = []byte("further")
	_, err = s.SaveOperation(t.Context(), o, "A")
	require.NoError(t, err, "nobody has taken it")
	_, err = s.TakeOperation(t.Context(), "o", "B")
	require.ErrorIs(t, err, messages.ErrLost, "it is held again")

	endLease(t, client, "o")
	taken, err := s.TakeOperation(t.Context(), "o", "B")
	require.NoError(t, err)
	require.Equal(t, o, taken)
	_, err = s.SaveOperation(t.Context(), o, "A")
	require.ErrorIs(t, err, messages.ErrLost)

	o.Held = false
	_, err = s.SaveOperation(t.Context(), o, "B") // gives it back
	require.NoError(t, err)
	_, err = s.SaveOperation(t.Context(), o, "B")
	require.ErrorIs(t, err, messages.ErrLost)
	_, err = s.TakeOperation(t.Context(), "o", "C")
	require.NoError(t, err)
	end(t, s, o, "C", "done")
	_, err = s.TakeOperation(t.Context(), "o", "D")
	require.ErrorIs(t, err, messages.ErrLost)
	_, err = s.TakeOperation(t.Context(), "nobody's", "D")
	require.ErrorIs(t, err, messages.ErrLost)
}

func TestWhoWorksOnAnOperationIsToldToStop(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	begin(t, s, operation("o"), "A")
	cancelled, err := s.SaveOperation(t.Context(), operation("o"), "A")
	require.NoError(t, err)
	require.False(t, cancelled)
	require.NoError(t, s.CancelOperation(t.Context(), "o"))
	cancelled, err = s.SaveOperation(t.Context(), operation("o"), "A")
	require.NoError(t, err)
	require.True(t, cancelled)
	_, open := operations(t, s)
	require.True(t, open[0].Cancelled)
	end(t, s, operation("o"), "A", "cancelled")
	require.ErrorIs(t, s.CancelOperation(t.Context(), "o"), messages.ErrNotFound)
	require.ErrorIs(t, s.CancelOperation(t.Context(), "nobody's"), messages.ErrNotFound)
}

// What has ended is forgotten after its time, what has not is kept, and a queue
// has a bounded number of them.
func TestOperationsAreForgotten(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	for i := range 25 {
		o := operation(fmt.Sprint(i))
		require.Empty(t, begin(t, s, o, "A"))
		end(t, s, o, "A", "done")
	}
	listed, open := operations(t, s)
	require.Len(t, listed, 20)
	require.Empty(t, open)
	require.Equal(t, "24", listed[0].ID)
	keys, err := client.Keys(t.Context(), "lovage:{operations}:*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 21, "the list, and its operations")
	for _, k := range keys {
		require.Greater(t, client.TTL(t.Context(), k).Val(), 23*time.Hour, k)
	}
	require.NoError(t, client.Del(t.Context(), "lovage:{operations}:op:24").Err())
	listed, _ = operations(t, s)
	require.Len(t, listed, 19, "the list may know more than there is")

	begin(t, s, operation("open"), "A")
	for _, k := range []string{"of:q", "op:open", "open"} {
		require.EqualValues(t, -1, client.TTL(t.Context(), "lovage:{operations}:"+k).Val(), k)
	}
}

func TestOperationsWorkInAClusterAndAfterARestart(t *testing.T) {
	t.Parallel()
	client := open(t, "redis://"+startCluster(t)+"?cluster=true&"+strings.TrimPrefix(patient, "?"))
	s := storeOn(t, client)
	require.Empty(t, begin(t, s, operation("o"), "A"))
	require.NoError(t, client.ScriptFlush(t.Context()).Err(), "a server that was restarted has no scripts")
	endLease(t, client, "o")
	_, err := s.TakeOperation(t.Context(), "o", "B")
	require.NoError(t, err)
	require.NoError(t, s.CancelOperation(t.Context(), "o"))
	listed, open := operations(t, s)
	require.Equal(t, listed, open)
	end(t, s, operation("o"), "B", "cancelled")
	listed, open = operations(t, s)
	require.Len(t, listed, 1)
	require.Empty(t, open)
}

func TestOperationsSayThatRedisIsAway(t *testing.T) {
	t.Parallel()
	s := storeOn(t, open(t, "redis://127.0.0.1:1"))
	_, err := s.BeginOperation(t.Context(), operation("o"), "A")
	require.ErrorIs(t, err, messages.ErrStoreUnavailable)
	_, err = s.TakeOperation(t.Context(), "o", "A")
	require.ErrorIs(t, err, messages.ErrStoreUnavailable)
	_, err = s.SaveOperation(t.Context(), operation("o"), "A")
	require.ErrorIs(t, err, messages.ErrStoreUnavailable)
	require.ErrorIs(t, s.CancelOperation(t.Context(), "o"), messages.ErrStoreUnavailable)
	_, err = s.Operations(t.Context(), "q")
	require.ErrorIs(t, err, messages.ErrStoreUnavailable)
	_, err = s.OpenOperations(t.Context())
	require.ErrorIs(t, err, messages.ErrStoreUnavailable)
}
