package results_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestClaimRunsATaskNobodyHasSeen(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	c, err := s.Claim(t.Context(), a, "A", record("t", messages.Started, "A"))
	require.NoError(t, err)
	require.Equal(t, messages.Claim{Verdict: messages.VerdictRun, Starts: 1}, c)
	_, err = s.Get(t.Context(), "t")
	require.ErrorIs(t, err, messages.ErrNotFound, "a claim says nothing to readers")
}

func TestClaimIsBusyWhileTheLeaseOfAnotherLives(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	c := claim(t, s, a, "B")
	require.Equal(t, messages.VerdictBusy, c.Verdict)
	require.Positive(t, c.Busy)
	require.LessOrEqual(t, c.Busy, 15*time.Second)
	r, err := s.Get(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, "A", r.Worker, "a refused claim must not write")
}

func TestClaimRepeatedWithItsTokenCountsOneStart(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	for range 3 {
		require.Equal(t, messages.Claim{Verdict: messages.VerdictRun, Starts: 1}, claim(t, s, a, "A"))
	}
}

func TestClaimTakesOverWhenTheLeaseHasRunOut(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	s := results.New(results.Options{Client: client, Lease: 60 * time.Millisecond})
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	var c messages.Claim
	require.Eventually(t, func() bool {
		c = claim(t, s, a, "B")
		return c.Verdict != messages.VerdictBusy
	}, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, messages.Claim{Verdict: messages.VerdictRun, Starts: 2}, c)
	require.ErrorIs(t, settle(t, s, a, "A", messages.Success, ""), messages.ErrLost)
	require.NoError(t, settle(t, s, a, "B", messages.Success, ""))
}

func TestStartsCountWhatBeganAndNotWhatWaited(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	starts := func(token string) int {
		expireLease(t, client, "t")
		c := claim(t, s, a, token)
		require.Equal(t, messages.VerdictRun, c.Verdict)
		return c.Starts
	}
	require.Equal(t, 1, starts("A"))
	require.Equal(t, 2, starts("B"))
	require.Equal(t, 2, starts("C"), "B never began")
	require.NoError(t, s.Begin(t.Context(), a, "C"))
	require.NoError(t, s.Begin(t.Context(), a, "C"), "to begin twice is one start")
	require.ErrorIs(t, s.Begin(t.Context(), a, "B"), messages.ErrLost)
	require.Equal(t, 3, starts("D"))
}

func TestReleaseTakesBackOnlyItsOwnStart(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}

	claim(t, s, a, "A")
	require.NoError(t, s.Release(t.Context(), a, "A"))
	require.Equal(t, messages.Claim{Verdict: messages.VerdictRun, Starts: 1}, claim(t, s, a, "B"),
		"released: no wait for the lease, no start counted")

	expireLease(t, client, "t") // B dies.
	require.Equal(t, 2, claim(t, s, a, "C").Starts)
	require.NoError(t, s.Release(t.Context(), a, "C"))
	require.Equal(t, 2, claim(t, s, a, "D").Starts, "B's start stays counted although C gave back")

	require.NoError(t, s.Begin(t.Context(), a, "D"))
	require.NoError(t, s.Release(t.Context(), a, "D"))
	require.NoError(t, s.Release(t.Context(), a, "D"), "there is nothing to give back")
	require.Equal(t, 2, claim(t, s, a, "E").Starts)

	require.NoError(t, s.Release(t.Context(), a, "A"), "a foreign token is no error")
	require.Equal(t, messages.VerdictBusy, claim(t, s, a, "F").Verdict, "and changes nothing")
}

func TestClaimOfAFinalRunNeverRuns(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	for _, final := range []messages.State{messages.Success, messages.Failure, messages.Revoked} {
		a := messages.Attempt{ID: "t-" + string(final), Number: 1}
		claim(t, s, a, "A")
		require.NoError(t, settle(t, s, a, "A", final, ""))
		for _, number := range []int{1, 2} {
			c := claim(t, s, messages.Attempt{ID: a.ID, Number: number}, "B")
			require.Equal(t, messages.VerdictFinal, c.Verdict)
		}
		require.Equal(t, messages.VerdictStale, claim(t, s, messages.Attempt{ID: a.ID}, "B").Verdict)
		require.ErrorIs(t, settle(t, s, a, "A", messages.Failure, ""), messages.ErrLost)
		require.ErrorIs(t, settle(t, s, a, "B", messages.Failure, ""), messages.ErrLost)
		require.ErrorIs(t, s.Progress(t.Context(), a, "A", record(a.ID, messages.Progress, "A")), messages.ErrLost)
		require.Equal(t, final, state(t, s, a.ID))
	}
}

// Who submits a task once more whose result is gone is told PENDING, until its
// message comes.
func TestClaimOfAFinalRunLeavesNothingPending(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	require.NoError(t, settle(t, s, a, "A", messages.Success, ""))
	deleted, err := s.Delete(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, deleted)
	submitted(t, s, record("t", messages.Pending, ""))
	require.Equal(t, messages.Pending, state(t, s, "t"))
	require.Equal(t, messages.VerdictFinal, claim(t, s, a, "B").Verdict)
	_, err = s.Get(t.Context(), "t")
	require.ErrorIs(t, err, messages.ErrNotFound)
}

func TestClaimOfANewRunStartsAfresh(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	old := messages.Attempt{ID: "t", Number: 3}
	claim(t, s, old, "A")
	require.NoError(t, settle(t, s, old, "A", messages.Failure, messages.NextDead))
	cancelTask(t, client, "t")

	again := messages.Attempt{ID: "t", Run: 1}
	require.Equal(t, messages.Claim{Verdict: messages.VerdictRun, Starts: 1}, claim(t, s, again, "B"))
	require.Equal(t, messages.Claim{Verdict: messages.VerdictStale, Starts: 1}, claim(t, s, old, "A"),
		"what the older run left is not due any more")
	require.NoError(t, settle(t, s, again, "B", messages.Success, ""))
	require.Equal(t, messages.Success, state(t, s, "t"))
}

func TestClaimOfANewerAttemptTakesOverFromTheOlder(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	older, newer := messages.Attempt{ID: "t"}, messages.Attempt{ID: "t", Number: 1}
	claim(t, s, older, "A")
	require.Equal(t, messages.Claim{Verdict: messages.VerdictRun, Starts: 1}, claim(t, s, newer, "B"))
	require.ErrorIs(t, settle(t, s, older, "A", messages.Success, ""), messages.ErrLost)
	require.Equal(t, messages.VerdictStale, claim(t, s, older, "A").Verdict)
}

func TestClaimNamesTheSuccessorToTheAttemptThatLeftIt(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	first := messages.Attempt{ID: "t", Number: 1}
	claim(t, s, first, "A")
	require.NoError(t, settle(t, s, first, "A", messages.Retry, messages.NextRetry))

	c := claim(t, s, first, "B")
	require.Equal(t, messages.VerdictStale, c.Verdict)
	require.Equal(t, messages.NextRetry, c.Next)
	require.Equal(t, messages.Retry, c.Result.State)
	require.Equal(t, "bad A", c.Result.Error.Message)
	c = claim(t, s, messages.Attempt{ID: "t"}, "B")
	require.Equal(t, messages.Claim{Verdict: messages.VerdictStale}, c, "an older copy must not publish it")

	second := messages.Attempt{ID: "t", Number: 2}
	require.Equal(t, messages.VerdictRun, claim(t, s, second, "B").Verdict)
	require.Empty(t, claim(t, s, first, "A").Next, "it arrived, so it was published")
	require.NoError(t, settle(t, s, second, "B", messages.Failure, messages.NextDead))

	c = claim(t, s, second, "C")
	require.Equal(t, messages.VerdictFinal, c.Verdict)
	require.Equal(t, messages.NextDead, c.Next)
	require.Equal(t, "bad B", c.Result.Error.Message)
	require.Empty(t, claim(t, s, messages.Attempt{ID: "t", Number: 3}, "C").Next)

	require.NoError(t, s.Done(t.Context(), first), "late news of an older attempt")
	require.Equal(t, messages.NextDead, claim(t, s, second, "C").Next)
	require.NoError(t, s.Done(t.Context(), second))
	c = claim(t, s, second, "C")
	require.Empty(t, c.Next)
	require.Nil(t, c.Result)
}

func TestDoneOfATaskWithoutARecordDoesNothing(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	require.NoError(t, s.Done(t.Context(), messages.Attempt{ID: "t"}))
	require.Zero(t, client.Exists(t.Context(), results.TaskKey("t")).Val())
}

func TestCancelledTaskIsOwnedToBeRevoked(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	cancelTask(t, client, "t")
	require.Equal(t, messages.Claim{Verdict: messages.VerdictCancelled}, claim(t, s, a, "A"))
	require.Zero(t, client.Exists(t.Context(), messages.ResultKey("t")).Val(), "it is not started")
	require.Equal(t, messages.VerdictBusy, claim(t, s, a, "B").Verdict, "one of two settles")
	require.NoError(t, settle(t, s, a, "A", messages.Revoked, ""))
	require.Equal(t, messages.Revoked, state(t, s, "t"))
}

func TestCancellationReachesARunningTaskByItsRenewal(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	cancelTask(t, client, "t")
	require.Equal(t, messages.VerdictBusy, claim(t, s, a, "B").Verdict, "the handler still runs")
	states, err := s.Renew(t.Context(), []results.Held{{Attempt: a, Token: "A"}})
	require.NoError(t, err)
	require.Equal(t, []results.LeaseState{results.LeaseCancelled}, states)
	require.Equal(t, messages.VerdictCancelled, claim(t, s, a, "A").Verdict)

	expireLease(t, client, "t")
	require.Equal(t, messages.VerdictCancelled, claim(t, s, a, "B").Verdict, "its worker died")
	require.ErrorIs(t, settle(t, s, a, "A", messages.Success, ""), messages.ErrLost)
	require.NoError(t, settle(t, s, a, "B", messages.Revoked, ""))
}

func TestCancellationOutlivesARetry(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	cancelTask(t, client, "t")
	require.NoError(t, settle(t, s, a, "A", messages.Retry, messages.NextRetry))
	c := claim(t, s, messages.Attempt{ID: "t", Number: 1}, "B")
	require.Equal(t, messages.VerdictCancelled, c.Verdict)
}

func TestRenewAnswersEachInOrder(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	one, two, three := messages.Attempt{ID: "1"}, messages.Attempt{ID: "2"}, messages.Attempt{ID: "3"}
	for _, a := range []messages.Attempt{one, two, three} {
		claim(t, s, a, "A")
	}
	require.NoError(t, settle(t, s, two, "A", messages.Success, ""))
	expireLease(t, client, "3")
	held := []results.Held{
		{Attempt: one, Token: "A"},
		{Attempt: one, Token: "B"},
		{Attempt: two, Token: "A"},
		{Attempt: three, Token: "A"},
		{Attempt: messages.Attempt{ID: "unknown"}, Token: "A"},
		{Attempt: messages.Attempt{ID: "1", Number: 1}, Token: "A"},
	}
	states, err := s.Renew(t.Context(), held)
	require.NoError(t, err)
	require.Equal(t, []results.LeaseState{
		results.LeaseHeld, results.LeaseLost, results.LeaseLost,
		results.LeaseHeld, results.LeaseLost, results.LeaseLost,
	}, states, "a lease that ran out and that nobody took is still the owner's")
	require.Equal(t, messages.VerdictBusy, claim(t, s, three, "B").Verdict)

	states, err = s.Renew(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, states)
}

// What share a round trip run as one script: an error in the middle of it is that
// of one task.
func TestATaskThatFailsFailsAlone(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	var held []results.Held
	for _, id := range []string{"1", "2", "3"} {
		a := messages.Attempt{ID: id}
		claim(t, s, a, "A")
		held = append(held, results.Held{Attempt: a, Token: "A"})
	}
	require.NoError(t, client.Del(t.Context(), results.TaskKey("2")).Err())
	require.NoError(t, client.LPush(t.Context(), results.TaskKey("2"), "not a record of ours").Err())
	states, err := s.Renew(t.Context(), held)
	require.ErrorContains(t, err, "WRONGTYPE")
	require.Equal(t, []results.LeaseState{results.LeaseHeld, results.LeaseUnknown, results.LeaseHeld}, states)
}

func TestScriptsAreLoadedAgainAfterAServerLostThem(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	flush := func() { require.NoError(t, client.ScriptFlush(t.Context()).Err()) }
	one, two := messages.Attempt{ID: "1"}, messages.Attempt{ID: "2"}
	claim(t, s, one, "A")
	flush()
	claim(t, s, two, "A")
	flush()
	states, err := s.Renew(t.Context(), []results.Held{{Attempt: one, Token: "A"}, {Attempt: two, Token: "B"}, {Attempt: two, Token: "A"}})
	require.NoError(t, err)
	require.Equal(t, []results.LeaseState{results.LeaseHeld, results.LeaseLost, results.LeaseHeld}, states)
	flush()
	require.NoError(t, s.Begin(t.Context(), one, "A"))
	flush()
	require.NoError(t, settle(t, s, one, "A", messages.Success, ""))
}

func TestRecordsOutliveWhatIsDue(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	day := 24 * time.Hour
	a := messages.Attempt{ID: "t"}
	requireTTL := func(want time.Duration) {
		t.Helper()
		for _, key := range []string{messages.ResultKey("t"), results.TaskKey("t")} {
			require.InDelta(t, want.Seconds(), client.PTTL(t.Context(), key).Val().Seconds(), 60, key)
		}
	}
	started := record("t", messages.Started, "A")
	started.ETA, started.Expires = time.Now().Add(2*day), time.Now().Add(9*day)
	_, err := s.Claim(t.Context(), a, "A", started)
	require.NoError(t, err)
	require.NoError(t, s.Progress(t.Context(), a, "A", started))
	requireTTL(16 * day)

	for _, key := range []string{messages.ResultKey("t"), results.TaskKey("t")} {
		require.NoError(t, client.PExpire(t.Context(), key, time.Minute).Err())
	}
	_, err = s.Renew(t.Context(), []results.Held{{Attempt: a, Token: "A"}})
	require.NoError(t, err)
	requireTTL(7 * day)

	progress := record("t", messages.Progress, "A")
	progress.Expires = time.Now().Add(3 * day / 2)
	require.NoError(t, s.Progress(t.Context(), a, "A", progress))
	requireTTL(17 * day / 2)

	for _, key := range []string{messages.ResultKey("t"), results.TaskKey("t")} {
		require.NoError(t, client.PExpire(t.Context(), key, time.Minute).Err())
	}
	retry := record("t", messages.Retry, "A")
	retry.NextAttempt = time.Now().Add(day)
	require.NoError(t, s.Settle(t.Context(), results.Settlement{Attempt: a, Token: "A", Result: retry, Next: messages.NextRetry}))
	requireTTL(8 * day)

	second := messages.Attempt{ID: "t", Number: 1}
	claim(t, s, second, "A")
	require.NoError(t, settle(t, s, second, "A", messages.Success, ""))
	requireTTL(day)
}

func TestLongLivedRecordsAreNotShortened(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	cancelTask(t, client, "t")
	long := 100 * 24 * time.Hour
	lengthen := func(key string, by time.Duration) {
		require.NoError(t, client.PExpire(t.Context(), key, by).Err())
	}
	lengthen(results.TaskKey("t"), long)
	claim(t, s, a, "A")
	require.Greater(t, client.PTTL(t.Context(), results.TaskKey("t")).Val(), long-time.Minute)

	require.NoError(t, s.Progress(t.Context(), a, "A", record("t", messages.Progress, "A")))
	require.Greater(t, client.PTTL(t.Context(), results.TaskKey("t")).Val(), long-time.Minute)
	lengthen(messages.ResultKey("t"), long)
	lengthen(results.TaskKey("t"), time.Minute)
	_, err := s.Renew(t.Context(), []results.Held{{Attempt: a, Token: "A"}})
	require.NoError(t, err)
	require.Greater(t, client.PTTL(t.Context(), messages.ResultKey("t")).Val(), long-time.Minute)

	lengthen(results.TaskKey("t"), long)
	require.NoError(t, settle(t, s, a, "A", messages.Retry, messages.NextRetry))
	require.Greater(t, client.PTTL(t.Context(), results.TaskKey("t")).Val(), long-time.Minute)
}

func TestAFinalStateIsKeptEvenFromAnOwner(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	require.NoError(t, settle(t, s, a, "A", messages.Success, ""))
	// No script leaves it like this; whatever did, the state wins.
	require.NoError(t, client.HSet(t.Context(), results.TaskKey("t"), "owner", "A").Err())
	require.ErrorIs(t, settle(t, s, a, "A", messages.Failure, ""), messages.ErrLost)
	require.ErrorIs(t, s.Progress(t.Context(), a, "A", record("t", messages.Progress, "A")), messages.ErrLost)
	require.Equal(t, messages.Success, state(t, s, "t"))
}

func TestAFullRedisLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a, again := messages.Attempt{ID: "t"}, messages.Attempt{ID: "t", Run: 1}
	claim(t, s, a, "A")
	require.NoError(t, settle(t, s, a, "A", messages.Success, messages.NextDead))
	claim(t, s, messages.Attempt{ID: "running"}, "A")
	before := taskRecord(t, client, "t")
	running := taskRecord(t, client, "running")

	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	_, err := s.Claim(t.Context(), again, "B", record("t", messages.Started, "B"))
	require.ErrorIs(t, err, messages.ErrStoreUnavailable)
	for _, ignore := range []bool{false, true} {
		err = s.Settle(t.Context(), results.Settlement{
			Attempt: messages.Attempt{ID: "running"}, Token: "A", IgnoreResult: ignore,
			Result: record("running", messages.Success, "A"),
		})
		require.ErrorIs(t, err, messages.ErrStoreUnavailable)
	}
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.Equal(t, before, taskRecord(t, client, "t"))
	require.Equal(t, running, taskRecord(t, client, "running"))
	require.Equal(t, messages.Started, state(t, s, "running"))
	require.Equal(t, messages.VerdictRun, claim(t, s, again, "B").Verdict)
}

func TestIDsWithBracesStayInOneSlot(t *testing.T) {
	t.Parallel()
	plain := open(t, "redis://"+startCluster(t))
	for _, id := range []string{
		"plain", "a{b}c", "{b}", "{}", "{}{b}", "a}b", "a}{b}", "a}b{", "}{", "{a", "}", "{}}", "a{}b}c{d}",
	} {
		key := results.TaskKey(id)
		want := plain.ClusterKeySlot(t.Context(), messages.ResultKey(id)).Val()
		require.Equal(t, want, plain.ClusterKeySlot(t.Context(), key).Val(), "%s: %s", id, key)
	}
	require.EqualValues(t, plain.ClusterKeySlot(t.Context(), "123456789").Val(), results.Slot("123456789"))
	require.Equal(t, "lovage:t:{celery-task-meta-plain}", results.TaskKey("plain"))
}

func TestEverythingWorksInACluster(t *testing.T) {
	t.Parallel()
	client := open(t, "redis://"+startCluster(t)+"?cluster=true")
	require.IsType(t, &redis.ClusterClient{}, client)
	s := storeOn(t, client)

	var held []results.Held
	for _, id := range []string{"plain", "a{b}c", "a}b", "x", "y"} {
		a := messages.Attempt{ID: id}
		require.Equal(t, messages.VerdictRun, claim(t, s, a, "A").Verdict)
		held = append(held, results.Held{Attempt: a, Token: "A"})
	}
	states, err := s.Renew(t.Context(), held)
	require.NoError(t, err)
	require.Len(t, states, 5)
	for _, h := range held {
		require.NoError(t, settle(t, s, h.Attempt, "A", messages.Success, ""))
	}
	page, err := s.List(t.Context(), results.Filter{}, "", 10)
	require.NoError(t, err)
	require.Len(t, page.Results, 5)

	w := messages.WorkerInfo{Name: "w"}
	require.NoError(t, s.Announce(t.Context(), w, []messages.CatalogEntry{{Name: "proj.add"}}))
	require.NoError(t, s.Heartbeat(t.Context(), w))
	catalog, err := s.Catalog(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, catalog[0].Alive)
	require.NoError(t, s.Leave(t.Context(), w))
	warnings, err := s.CheckServer(t.Context())
	require.NoError(t, err)
	require.Empty(t, warnings)
}
