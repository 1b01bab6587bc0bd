package results_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// put stores records with their entries in the index, as a recorder does.
func put(t *testing.T, client redis.UniversalClient, records ...*messages.Result) {
	t.Helper()
	_, err := client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for _, r := range records {
			text, err := messages.EncodeResult(r)
			if err != nil {
				return err
			}
			pipe.Set(t.Context(), messages.ResultKey(r.TaskID), text, time.Hour)
			pipe.ZAddNX(t.Context(), results.IndexKey(r.State), results.IndexEntry(r))
		}
		return nil
	})
	require.NoError(t, err)
}

// at is a record of a task created so many milliseconds after an hour ago.
func at(id string, ms int, state messages.State) *messages.Result {
	r := record(id, state, "w1")
	r.DateCreated = time.Now().Add(-time.Hour).Truncate(time.Hour).Add(time.Duration(ms) * time.Millisecond).UTC()
	return r
}

func ids(page results.Page) []string {
	out := make([]string, 0, len(page.Results))
	for _, r := range page.Results {
		out = append(out, r.TaskID)
	}
	return out
}

// all pages through the list and returns the pages' ids.
func all(t *testing.T, s *results.Store, f results.Filter, limit int, between func()) []string {
	t.Helper()
	var seen []string
	cursor := ""
	for range 1000 {
		page, err := s.List(t.Context(), f, cursor, limit)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Results), limit)
		seen = append(seen, ids(page)...)
		if cursor = page.Next; cursor == "" {
			return seen
		}
		if between != nil {
			between()
		}
	}
	require.FailNow(t, "the list does not end")
	return nil
}

func TestGetTellsAbsenceFromAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	_, err := s.Get(t.Context(), "nobody")
	require.ErrorIs(t, err, messages.ErrNotFound)
	require.ErrorIs(t, err, redis.Nil)
	require.NoError(t, client.Set(t.Context(), messages.ResultKey("bad"), "{", 0).Err())
	_, err = s.Get(t.Context(), "bad")
	require.Error(t, err)
	require.NotErrorIs(t, err, messages.ErrNotFound)
	require.NotErrorIs(t, err, messages.ErrStoreUnavailable)
}

func TestListIsNewestFirstAndStableWhileTasksArrive(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	var want []string
	// Many of one millisecond, so that pages end among them.
	for i := range 40 {
		id := fmt.Sprintf("t%02d", i)
		put(t, client, at(id, i/13, messages.Success))
		want = append([]string{id}, want...)
	}
	for _, limit := range []int{1, 3, 7, 39, 40, 41, 500} {
		arrived := 0
		got := all(t, s, results.Filter{}, limit, func() {
			arrived++
			put(t, client, at(fmt.Sprintf("new-%d-%d", limit, arrived), 1000+arrived, messages.Pending))
		})
		require.Equal(t, want, got[len(got)-40:], "limit %d", limit)
		for i := range arrived {
			id := fmt.Sprintf("new-%d-%d", limit, i+1)
			require.NotContains(t, got, id)
			require.NoError(t, client.ZRem(t.Context(), results.IndexKey(messages.Pending), id).Err())
		}
	}
}

func TestListGoesOnWhenTheTaskOfItsCursorIsGone(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	put(t, client, at("a", 1, messages.Success), at("b", 1, messages.Success), at("c", 1, messages.Success))
	page, err := s.List(t.Context(), results.Filter{}, "", 2)
	require.NoError(t, err)
	require.Equal(t, []string{"c", "b"}, ids(page))
	require.NoError(t, client.ZRem(t.Context(), results.IndexKey(messages.Success), "b").Err())
	page, err = s.List(t.Context(), results.Filter{}, page.Next, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, ids(page))
	require.Empty(t, page.Next)
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	var records []*messages.Result
	for i, state := range messages.States() {
		r := at(string(state), i, state)
		r.Queue, r.Name, r.Worker = fmt.Sprintf("q%d", i%2), fmt.Sprintf("n%d", i%3), fmt.Sprintf("w%d", i%4)
		records = append(records, r)
	}
	put(t, client, records...)
	hour := records[0].DateCreated
	ms := func(n int) time.Time { return hour.Add(time.Duration(n) * time.Millisecond) }
	for name, test := range map[string]struct {
		filter results.Filter
		want   []string
	}{
		"states": {results.Filter{States: []messages.State{messages.Failure, messages.Pending}}, []string{"FAILURE", "PENDING"}},
		"queue":  {results.Filter{Queue: "q1"}, []string{"REVOKED", "SUCCESS", "PROGRESS", "RECEIVED"}},
		"name":   {results.Filter{Name: "n2"}, []string{"SUCCESS", "STARTED"}},
		"worker": {results.Filter{Worker: "w3"}, []string{"REVOKED", "PROGRESS"}},
		"all":    {results.Filter{Queue: "q1", Worker: "w3", States: []messages.State{messages.Revoked}}, []string{"REVOKED"}},
		"none":   {results.Filter{Name: "nobody"}, nil},
		"since":  {results.Filter{Since: ms(6)}, []string{"REVOKED", "FAILURE"}},
		"until":  {results.Filter{Until: ms(2)}, []string{"RECEIVED", "PENDING"}},
		"span":   {results.Filter{Since: ms(2), Until: ms(4)}, []string{"PROGRESS", "STARTED"}},
	} {
		for _, limit := range []int{1, 2, 100} {
			require.Equal(t, test.want, all(t, s, test.filter, limit, nil), "%s, limit %d", name, limit)
		}
	}
}

func TestListReadsABoundedNumberOfRecords(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	records := []*messages.Result{at("needle", 0, messages.Success)}
	records[0].Worker = "w2"
	for i := range 6000 {
		records = append(records, at(fmt.Sprintf("hay%04d", i), 1+i/3000, messages.Success))
	}
	put(t, client, records...)
	f := results.Filter{Worker: "w2"}
	page, err := s.List(t.Context(), f, "", 10)
	require.NoError(t, err)
	require.Empty(t, page.Results)
	require.NotEmpty(t, page.Next, "it would have to read too many")
	require.Equal(t, []string{"needle"}, all(t, s, f, 10, nil))

	page, err = s.List(t.Context(), results.Filter{}, "", 1<<30)
	require.NoError(t, err)
	require.Len(t, page.Results, 500)
	page, err = s.List(t.Context(), results.Filter{}, "", -1)
	require.NoError(t, err)
	require.Len(t, page.Results, 1)
}

func TestListDropsEntriesWhoseRecordIsGone(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	gone, fresh := at("gone", 2, messages.Success), at("fresh", 0, messages.Success)
	fresh.DateCreated = time.Now()
	put(t, client, at("b", 3, messages.Success), gone, fresh, at("a", 1, messages.Success), at("bad", 1, messages.Success))
	require.NoError(t, client.Del(t.Context(), messages.ResultKey("gone"), messages.ResultKey("fresh")).Err())
	require.NoError(t, client.Set(t.Context(), messages.ResultKey("bad"), "{", 0).Err())
	require.Equal(t, []string{"b", "a"}, all(t, s, results.Filter{}, 1, nil))
	left := client.ZRange(t.Context(), results.IndexKey(messages.Success), 0, -1).Val()
	require.Equal(t, []string{"a", "bad", "b", "fresh"}, left, "a fresh entry may be waiting for its record")
}

func TestListTakesTheTimeOfCreationFromTheIndexWhereCeleryWroteTheRecord(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	r := at("t", 5, messages.Success)
	put(t, client, r)
	require.NoError(t, client.Set(t.Context(), messages.ResultKey("t"),
		`{"status":"SUCCESS","result":3,"traceback":null,"children":[],"task_id":"t"}`, 0).Err())
	page, err := s.List(t.Context(), results.Filter{}, "", 1)
	require.NoError(t, err)
	require.Equal(t, r.DateCreated, page.Results[0].DateCreated)
}

func TestListRefusesACursorThatIsNoneOfOurs(t *testing.T) {
	t.Parallel()
	s := storeOn(t, nil)
	for _, cursor := range []string{"x", "!!!", "MTIz", "OjE", "YTpi", "MTI6"} {
		_, err := s.List(t.Context(), results.Filter{}, cursor, 1)
		invalid := new(messages.InvalidError)
		require.ErrorAs(t, err, &invalid, cursor)
		require.Equal(t, "cursor", invalid.Field)
	}
}

func TestIndexIsBounded(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	s := results.New(results.Options{Client: client, IndexLimit: 50})
	put(t, client, at("newest", 5000, messages.Success))
	var records []*messages.Result
	for i := range 2500 {
		records = append(records, at(fmt.Sprintf("t%04d", i), i, messages.Pending))
	}
	recordAll(t, s, records)
	n := indexed(t, client)
	require.LessOrEqual(t, n, int64(50+1000+1))
	require.NoError(t, client.ZScore(t.Context(), results.IndexKey(messages.Success), "newest").Err(), "each state has its own limit")
	require.NoError(t, client.ZScore(t.Context(), results.IndexKey(messages.Pending), "t2499").Err())
	page, err := s.List(t.Context(), results.Filter{}, "", 1)
	require.NoError(t, err)
	require.EqualValues(t, 2501-n, page.Trimmed, "what was dropped is counted")
	require.EqualValues(t, page.Trimmed, s.Trimmed())
}

func TestIndexIsTrimmedBySettlementsToo(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	s := results.New(results.Options{Client: client, IndexLimit: 5})
	s.TrimAfter(20)
	for i := range 20 {
		a := messages.Attempt{ID: fmt.Sprintf("t%04d", i)}
		claim(t, s, a, "A")
		require.NoError(t, s.Settle(t.Context(), results.Settlement{
			Attempt: a, Token: "A", Result: at(a.ID, i, messages.Success),
		}))
	}
	require.Equal(t, []string{"t0015", "t0016", "t0017", "t0018", "t0019"},
		client.ZRange(t.Context(), results.IndexKey(messages.Success), 0, -1).Val())
}

// indexed is how many entries the index has.
func indexed(t *testing.T, client redis.UniversalClient) (n int64) {
	t.Helper()
	for _, key := range results.IndexKeys() {
		n += client.ZCard(t.Context(), key).Val()
	}
	return n
}

// recordAll writes submissions as a gateway does.
func recordAll(t *testing.T, s *results.Store, records []*messages.Result) {
	t.Helper()
	recorder := results.NewRecorder(s, len(records))
	recorder.SetPatience(time.Minute)
	stop := runs(t, recorder.Run)
	defer stop()
	for _, r := range records {
		require.True(t, recorder.Record(r))
	}
	last := records[len(records)-1].TaskID
	require.Eventually(t, func() bool {
		_, err := s.Get(t.Context(), last)
		return err == nil
	}, 30*time.Second, 5*time.Millisecond)
	require.Zero(t, recorder.Dropped())
}

func TestIndexForgetsOldEntriesWhoseRecordIsGone(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	s := results.New(results.Options{Client: client, TTL: time.Minute})
	// More entries that stay than one sweep looks at, and gone ones behind them.
	var staying, gone []*messages.Result
	for i := range 600 {
		staying = append(staying, at(fmt.Sprintf("delayed%03d", i), i, messages.Pending))
	}
	for i := range 30 {
		gone = append(gone, at(fmt.Sprintf("gone%02d", i), 1000+i, messages.Success))
	}
	put(t, client, append(staying, gone...)...)
	for _, r := range gone {
		require.NoError(t, client.Del(t.Context(), messages.ResultKey(r.TaskID)).Err())
	}
	var fresh []*messages.Result
	for i := range 2200 {
		fresh = append(fresh, record(fmt.Sprintf("new%04d", i), messages.Pending, ""))
	}
	recordAll(t, s, fresh)
	require.EqualValues(t, 2800, indexed(t, client))
}
