package results_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestListFindsTasksByTheirError(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	said := func(ms int, state messages.State, kind, message string) *messages.Result {
		r := at(fmt.Sprintf("t%d", ms), ms, state)
		r.Error = &messages.TaskError{Type: kind, Message: message}
		return r
	}
	put(t, client,
		said(1, messages.Failure, "ValueError", `Card "4711" was refused`),
		said(2, messages.Retry, "TimeoutError", "no answer from bank.example"),
		said(3, messages.Revoked, "TaskRevokedError", "revoked"),
		at("t4", 4, messages.Success), at("refused", 5, messages.Pending))
	for text, want := range map[string][]string{
		"was REFUSED":             {"t1"},
		`"4711"`:                  {"t1"},
		"ValueError: Card":        {"t1"},
		"bank.example":            {"t2"},
		"error":                   {"t3", "t2", "t1"},
		"nobody has said so":      nil,
		"nobody, has \\ said so:": nil,
	} {
		require.Equal(t, want, all(t, s, results.Filter{Error: text}, 1, nil), text)
	}
	require.Equal(t, []string{"t2"}, all(t, s, results.Filter{Error: "error", States: []messages.State{messages.Retry}}, 10, nil))
}

func TestListFindsTasksByTheBeginningOfTheirID(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	var ours []string
	var records []*messages.Result
	for i := range 20 {
		r := record(messages.NewID(), messages.Success, "w")
		ours, records = append([]string{r.TaskID}, ours...), append(records, r)
		records = append(records, at(fmt.Sprintf("order-%d", i), i, messages.Failure))
	}
	hex := at("5f3d2e6a-9a7b-4c1d-8e2f-1a2b3c4d5e6f", 100, messages.Pending)
	put(t, client, append(records, hex)...)
	found := func(prefix string) []string { return all(t, s, results.Filter{ID: prefix}, 7, nil) }
	require.ElementsMatch(t, ours, found(ours[0][:5]), "all of one day")
	require.Equal(t, ours[:1], found(ours[0]))
	require.Equal(t, ours[:1], found(ours[0][:30]))
	require.Equal(t, []string{"order-19", "order-18", "order-17", "order-16", "order-15", "order-14", "order-13", "order-12", "order-11", "order-10", "order-1"}, found("order-1"))
	require.Equal(t, []string{hex.TaskID}, found("5f3d"))
	require.Empty(t, found("order-x"))
	require.Empty(t, all(t, s, results.Filter{ID: ours[0][:9], Until: time.Now().Add(-time.Hour)}, 7, nil))
}

func TestListFindsTasksByIndexedValues(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	submit := func(id string, ms int, terms ...string) *messages.Result {
		r := at(id, ms, messages.Pending)
		r.Terms = terms
		return r
	}
	recordAll(t, s, []*messages.Result{
		submit("a", 1, "user_id=42", "kind=new"), submit("b", 2, "user_id=42", "kind=old"), submit("c", 3, "user_id=7", "kind=new"), submit("d", 4),
	})
	find := func(f results.Filter) []string { return all(t, s, f, 1, nil) }
	require.Equal(t, []string{"b", "a"}, find(results.Filter{Input: map[string]string{"user_id": "42"}}))
	require.Equal(t, []string{"a"}, find(results.Filter{Input: map[string]string{"user_id": "42", "kind": "new"}}))
	require.Empty(t, find(results.Filter{Input: map[string]string{"user_id": "4"}}))
	require.NoError(t, s.Settle(t.Context(), claimed(t, s, at("a", 1, messages.Failure))))
	require.Equal(t, []string{"a"}, find(results.Filter{Input: map[string]string{"user_id": "42"}, States: []messages.State{messages.Failure}}))

	require.NoError(t, client.Del(t.Context(), messages.ResultKey("b")).Err())
	require.Equal(t, []string{"a"}, find(results.Filter{Input: map[string]string{"user_id": "42"}}))
	keys := client.Keys(t.Context(), "lovage:in:*").Val()
	require.Len(t, keys, 4)
	for _, key := range keys {
		require.Greater(t, client.TTL(t.Context(), key).Val(), 7*24*time.Hour)
		require.NotContains(t, client.ZRange(t.Context(), key, 0, -1).Val()[1:], "b", "what is gone leaves the set that was walked along")
	}

	again := submit("a", 1, "user_id=43")
	again.Run = 1
	_, err := s.Restart(t.Context(), again, false)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, find(results.Filter{Input: map[string]string{"user_id": "43"}}), "it was sent again with another input")
}

func TestAnIndexedValueFindsABoundedNumberOfTasks(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	records := make([]*messages.Result, 10_050)
	for i := range records {
		records[i] = at(fmt.Sprintf("t%05d", i), i, messages.Pending)
		records[i].Terms = []string{"user_id=42"}
	}
	recordAll(t, s, records)
	keys := client.Keys(t.Context(), "lovage:in:*").Val()
	require.Len(t, keys, 1)
	require.EqualValues(t, 10_000, client.ZCard(t.Context(), keys[0]).Val())
	page, err := s.List(t.Context(), results.Filter{Input: map[string]string{"user_id": "42"}}, "", 1)
	require.NoError(t, err)
	require.Equal(t, []string{"t10049"}, ids(page))
}

// claimed is the settlement of a task that was claimed.
func claimed(t *testing.T, s *results.Store, r *messages.Result) results.Settlement {
	t.Helper()
	a := messages.Attempt{ID: r.TaskID, Run: r.Run, Number: r.Retries}
	c, err := s.Claim(t.Context(), a, "A", nil)
	require.NoError(t, err)
	require.Equal(t, messages.VerdictRun, c.Verdict)
	return results.Settlement{Attempt: a, Token: "A", Result: r}
}

// Names share marks, and a mark says nothing about the record.
func TestListTellsNamesApartThatLookAlike(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	var records []*messages.Result
	var want []string
	for i := range 2000 {
		r := at(fmt.Sprintf("t%04d", i), i/100, messages.Success)
		r.Name, r.Queue = fmt.Sprintf("n%d", i%1000), fmt.Sprintf("q%d", i%100)
		if r.Name == "n7" {
			want = append([]string{r.TaskID}, want...)
		}
		records = append(records, r)
	}
	put(t, client, records...)
	require.Equal(t, want, all(t, s, results.Filter{Name: "n7"}, 10, nil))
	require.Equal(t, want, all(t, s, results.Filter{Name: "n7", Queue: "q7"}, 1, nil))
	require.Empty(t, all(t, s, results.Filter{Name: "n7", Queue: "q8"}, 10, nil))
	require.Len(t, all(t, s, results.Filter{Queue: "q8"}, 3, nil), 20)
}

// A worker may be quicker than the recorder, which then knows less.
func TestATaskThatHasEndedBeforeItsSubmissionWasRecordedDoesNotWait(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	require.NoError(t, s.Settle(t.Context(), claimed(t, s, at("quick", 1, messages.Success))))
	recordAll(t, s, []*messages.Result{at("quick", 1, messages.Pending), at("slow", 2, messages.Pending)})
	require.Eventually(t, func() bool { return indexed(t, client) == 2 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, []string{"slow"}, all(t, s, results.Filter{States: []messages.State{messages.Pending}}, 1, nil))
	require.Equal(t, []string{"slow", "quick"}, all(t, s, results.Filter{}, 1, nil))
}

func TestWhatCeleryHasWrittenIsFoundByItsState(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	put(t, client, at("theirs", 1, messages.Pending), at("waits", 2, messages.Pending), at("gone", 3, messages.Pending), at("odd", 4, messages.Pending))
	require.NoError(t, client.Set(t.Context(), messages.ResultKey("theirs"),
		`{"status": "FAILURE", "result": {"exc_type": "E", "exc_message": ["x"], "exc_module": "m"}, "traceback": null, "children": [], "task_id": "theirs"}`, 0).Err())
	require.NoError(t, client.Set(t.Context(), messages.ResultKey("odd"), `{"status": "HALFWAY", "result": null, "task_id": "odd"}`, 0).Err())
	require.NoError(t, client.Del(t.Context(), messages.ResultKey("gone")).Err())
	failed := results.Filter{States: []messages.State{messages.Failure}}
	require.Empty(t, all(t, s, failed, 1, nil))
	require.NoError(t, s.TidyOnce(t.Context()))
	require.Equal(t, []string{"theirs"}, all(t, s, failed, 1, nil))
	require.Equal(t, []string{"waits"}, client.ZRange(t.Context(), results.IndexKey(messages.Pending), 0, -1).Val())
	require.Equal(t, []string{"odd"}, client.ZRange(t.Context(), results.IndexKey(messages.Started), 0, -1).Val())
	require.Equal(t, []string{"odd", "waits", "theirs"}, all(t, s, results.Filter{}, 1, nil))
}

func TestListPutsRightWhatItComesBy(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	r := at("t", 1, messages.Failure)
	put(t, client, r)
	require.NoError(t, client.ZAdd(t.Context(), results.IndexKey(messages.Started), results.IndexEntry(r)).Err())
	require.Equal(t, []string{"t"}, all(t, s, results.Filter{}, 1, nil), "nothing is listed twice")
	require.EqualValues(t, 1, indexed(t, client))
	require.Equal(t, []string{"t"}, all(t, s, results.Filter{States: []messages.State{messages.Failure}}, 1, nil))
}

func TestTidyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	stale := at("t", 1, messages.Pending)
	put(t, client, stale)
	require.NoError(t, client.Set(t.Context(), messages.ResultKey("t"), `{"status": "SUCCESS", "result": 1, "task_id": "t"}`, 0).Err())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Tidy(ctx) }()
	require.Eventually(t, func() bool {
		return client.ZScore(t.Context(), results.IndexKey(messages.Success), "t").Err() == nil
	}, 20*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

// packedTasks are tasks that have succeeded and stand in packs, the newest last:
// some in one millisecond, most at random within half a minute.
func packedTasks(t *testing.T, s *results.Store, client redis.UniversalClient, n int) []*messages.Result {
	t.Helper()
	records := make([]*messages.Result, n)
	for i := range records {
		records[i] = at(uuid.NewString(), rand.N(30_000), messages.Success)
		if i%10 == 0 {
			records[i] = at(uuid.NewString(), 15_000, messages.Success)
		}
	}
	for group := range slices.Chunk(slices.Clone(records), 100) {
		for _, r := range group {
			text, err := messages.EncodeResult(r)
			require.NoError(t, err)
			require.NoError(t, client.Set(t.Context(), messages.ResultKey(r.TaskID), text, time.Hour).Err())
		}
		require.NoError(t, s.Enter(t.Context(), group...))
	}
	slices.SortFunc(records, func(a, b *messages.Result) int {
		return cmp.Or(cmp.Compare(results.IndexEntry(a).Score, results.IndexEntry(b).Score), strings.Compare(a.TaskID, b.TaskID))
	})
	require.Less(t, client.ZCard(t.Context(), results.IndexKey(messages.Success)).Val(), int64(n))
	return records
}

func newest(records []*messages.Result) (ids []string) {
	for _, r := range slices.Backward(records) {
		ids = append(ids, r.TaskID)
	}
	return ids
}

func TestListReadsPacksInOrder(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	records := packedTasks(t, s, client, 1000)
	waiting := at("waits", 15_000, messages.Pending)
	put(t, client, waiting)
	done := results.Filter{States: []messages.State{messages.Success}}
	for _, limit := range []int{1, 7, 500} {
		require.Equal(t, newest(records), all(t, s, done, limit, nil))
	}
	require.Len(t, all(t, s, results.Filter{}, 100, nil), 1001)
	since, until := records[200].DateCreated, records[700].DateCreated
	var within []*messages.Result
	for _, r := range records {
		if !r.DateCreated.Before(since) && r.DateCreated.Before(until) {
			within = append(within, r)
		}
	}
	require.Equal(t, newest(within), all(t, s, results.Filter{States: done.States, Since: since, Until: until}, 9, nil))
	require.Equal(t, []string{records[3].TaskID}, all(t, s, results.Filter{ID: records[3].TaskID}, 1, nil))
}

func TestAPackedTaskThatRunsAgainIsListedOnce(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	records := packedTasks(t, s, client, 200)
	later, same := *records[50], *records[60]
	later.DateCreated = later.DateCreated.Add(time.Minute)
	want := append([]string{later.TaskID}, newest(slices.Delete(slices.Clone(records), 50, 51))...)
	one := func(s messages.State) results.Filter { return results.Filter{States: []messages.State{s}} }
	for _, again := range []*messages.Result{&later, &same} {
		again.Run, again.State = 1, messages.Pending
		_, err := s.Restart(t.Context(), again, false)
		require.NoError(t, err)
	}
	require.Equal(t, []string{later.TaskID, same.TaskID}, all(t, s, one(messages.Pending), 7, nil))
	require.Len(t, all(t, s, one(messages.Success), 7, nil), 198)
	require.Equal(t, want, all(t, s, results.Filter{}, 7, nil))
	require.Equal(t, want, all(t, s, results.Filter{States: []messages.State{messages.Success, messages.Pending}}, 7, nil))
	for again, state := range map[*messages.Result]messages.State{&later: messages.Success, &same: messages.Failure} {
		again.State = state
		require.NoError(t, s.Settle(t.Context(), claimed(t, s, again)))
	}
	require.Equal(t, want, all(t, s, results.Filter{}, 7, nil))
	require.Len(t, all(t, s, one(messages.Success), 7, nil), 199)
	require.Equal(t, []string{same.TaskID}, all(t, s, one(messages.Failure), 7, nil))
}

func TestAPackGoesWithItsLastTask(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	records := packedTasks(t, s, client, 300)
	for i, r := range records {
		if i != 100 {
			require.NoError(t, client.Del(t.Context(), messages.ResultKey(r.TaskID)).Err())
		}
	}
	require.Equal(t, []string{records[100].TaskID}, all(t, s, results.Filter{}, 500, nil))
	require.EqualValues(t, 1, indexed(t, client), "and the pack of the one that is left stays")
	require.Equal(t, []string{records[100].TaskID}, all(t, s, results.Filter{}, 500, nil))
}

func TestTheTasksOfPacksAreCountedWhenTheyAreTrimmed(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	s := results.New(results.Options{Client: client, IndexLimit: 20})
	records := packedTasks(t, s, client, 500)
	require.NoError(t, s.Trim(t.Context()))
	require.EqualValues(t, 20, indexed(t, client))
	left := all(t, s, results.Filter{}, 500, nil)
	require.Equal(t, newest(records)[0], left[0])
	require.EqualValues(t, 500-len(left), s.Trimmed())
}

func TestPacksAreSwept(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	s := results.New(results.Options{Client: client, TTL: time.Minute})
	records := packedTasks(t, s, client, 2000)
	require.NoError(t, s.Trim(t.Context()))
	all := indexed(t, client)
	for _, r := range records {
		require.NoError(t, client.Del(t.Context(), messages.ResultKey(r.TaskID)).Err())
	}
	require.NoError(t, s.Trim(t.Context()))
	require.Less(t, indexed(t, client), all)
	for range 10 {
		require.NoError(t, s.Trim(t.Context()))
	}
	require.Zero(t, indexed(t, client))
}

// The lists of a cluster are on one node, the records on all.
func TestListsWorkInACluster(t *testing.T) {
	t.Parallel()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{startCluster(t)}})
	t.Cleanup(func() { _ = client.Close() })
	s := storeOn(t, client)
	r := at("a", 1, messages.Pending)
	r.Terms, r.Kwargs = []string{"x=1"}, json.RawMessage(`{"x":1}`)
	recordAll(t, s, []*messages.Result{at("b", 2, messages.Pending), r})
	require.NoError(t, s.Settle(t.Context(), claimed(t, s, at("b", 2, messages.Failure))))
	require.Equal(t, []string{"b", "a"}, all(t, s, results.Filter{}, 1, nil))
	require.Equal(t, []string{"b"}, all(t, s, results.Filter{Error: "value"}, 1, nil))
	require.Equal(t, []string{"a"}, all(t, s, results.Filter{Input: map[string]string{"x": "1"}}, 1, nil))
	require.NoError(t, s.TidyOnce(t.Context()))
}
