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

const keyLease = 10 * time.Second

// by is the reservation of one key by a token, which brings an id of its own.
func by(token string) results.Reservation {
	return results.Reservation{Scope: "s", Key: "k", Fingerprint: "f", ID: "id-" + token, Token: token}
}

// reserve reserves the key of r.
func reserve(t *testing.T, s *results.Store, r results.Reservation) results.Reserved {
	t.Helper()
	reserved, err := s.ReserveKey(t.Context(), r, keyLease)
	require.NoError(t, err)
	return reserved
}

// lapse makes the lease of the key end now.
func lapse(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	require.NoError(t, client.HSet(t.Context(), by("").Name(), "lease", 1).Err())
}

func exists(t *testing.T, client redis.UniversalClient) bool {
	t.Helper()
	n, err := client.Exists(t.Context(), by("").Name()).Result()
	require.NoError(t, err)
	return n == 1
}

func TestKeyIsReservedForTheFirst(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	require.Equal(t, results.Reserved{State: results.KeyReserved, ID: "id-A", Answer: []byte{}}, reserve(t, s, by("A")))
	require.Equal(t, results.KeyReserved, reserve(t, s, by("A")).State, "again with its token is harmless")
	busy := reserve(t, s, by("B"))
	require.Equal(t, results.KeyBusy, busy.State)
	require.Equal(t, "id-A", busy.ID)
	require.Positive(t, busy.RetryAfter)
	require.LessOrEqual(t, busy.RetryAfter, keyLease)

	fields, err := client.HGetAll(t.Context(), by("").Name()).Result()
	require.NoError(t, err)
	require.Equal(t, "id-A", fields["id"])
	require.Equal(t, "f", fields["fingerprint"])
	require.Equal(t, "pending", fields["state"])
	require.NotContains(t, fields, "doubt")
}

func TestKeyOfAnotherScopeIsAnotherKey(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	reserve(t, s, by("A"))
	for _, change := range []func(*results.Reservation){
		func(r *results.Reservation) { r.Scope = "other" },
		func(r *results.Reservation) { r.Key = "other" },
		func(r *results.Reservation) { r.Key = strings.Repeat("}{ \x00", 100) },
	} {
		r := by("B")
		change(&r)
		require.Equal(t, results.KeyReserved, reserve(t, s, r).State)
		require.Regexp(t, `^lovage:idem:\{[0-9a-f]{64}\}$`, r.Name())
	}
}

func TestKeyThatIsDoneRepeatsItsAnswer(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	reserve(t, s, by("A"))
	require.NoError(t, s.CompleteKey(t.Context(), by("A"), []byte("{\"a\":\"\x00ü\"}\n")))
	want := results.Reserved{State: results.KeyDone, ID: "id-A", Answer: []byte("{\"a\":\"\x00ü\"}\n")}
	require.Equal(t, want, reserve(t, s, by("B")))
	require.Equal(t, want, reserve(t, s, by("A")))

	require.NoError(t, s.CompleteKey(t.Context(), by("A"), []byte("other")), "the first answer stays")
	require.NoError(t, s.ReleaseKey(t.Context(), by("A")), "there is nothing to release")
	require.Equal(t, want, reserve(t, s, by("B")))
}

func TestKeyWithAnotherPayloadIsAMismatchInEveryState(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	other := by("B")
	other.Fingerprint = "g"
	mismatch := results.Reserved{State: results.KeyMismatch, Answer: []byte{}}
	reserve(t, s, by("A"))
	require.Equal(t, mismatch, reserve(t, s, other))
	lapse(t, client)
	require.Equal(t, mismatch, reserve(t, s, other))
	require.NoError(t, s.CompleteKey(t.Context(), by("A"), nil))
	require.Equal(t, mismatch, reserve(t, s, other))
	require.Equal(t, results.KeyDone, reserve(t, s, by("A")).State, "and it changes nothing")
}

func TestLapsedKeyIsTakenOverWithItsID(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	_, err := s.ReserveKey(t.Context(), by("A"), 30*time.Millisecond)
	require.NoError(t, err)
	var taken results.Reserved
	require.Eventually(t, func() bool {
		taken = reserve(t, s, by("B"))
		return taken.State != results.KeyBusy
	}, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, results.Reserved{State: results.KeyTaken, ID: "id-A", Answer: []byte{}}, taken)
	require.Equal(t, results.KeyTaken, reserve(t, s, by("B")).State, "again with its token is harmless")
	require.Equal(t, results.KeyBusy, reserve(t, s, by("C")).State)
	require.Equal(t, results.KeyBusy, reserve(t, s, by("A")).State, "the first holder has lost it")
}

func TestReleasedKeyIsFreeForAnyPayload(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	reserve(t, s, by("A"))
	require.NoError(t, s.ReleaseKey(t.Context(), by("B")), "a foreign token is no error")
	require.True(t, exists(t, client), "and changes nothing")
	require.NoError(t, s.ReleaseKey(t.Context(), by("A")))
	require.False(t, exists(t, client))
	require.NoError(t, s.ReleaseKey(t.Context(), by("A")))
	other := by("B")
	other.Fingerprint = "g"
	require.Equal(t, results.Reserved{State: results.KeyReserved, ID: "id-B", Answer: []byte{}}, reserve(t, s, other))
}

// A holder that took over may not have sent anything, but the one before it
// may have: a new id would be a second task.
func TestKeyInDoubtKeepsItsIDWhenItIsReleased(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	reserve(t, s, by("A"))
	lapse(t, client)
	reserve(t, s, by("B"))
	require.NoError(t, s.ReleaseKey(t.Context(), by("A")), "A is fenced off")
	require.Equal(t, results.KeyBusy, reserve(t, s, by("C")).State)
	require.NoError(t, s.ReleaseKey(t.Context(), by("B")))
	taken := reserve(t, s, by("C"))
	require.Equal(t, results.KeyTaken, taken.State, "at once, without waiting for B's lease")
	require.Equal(t, "id-A", taken.ID)
	other := by("D")
	other.Fingerprint = "g"
	require.Equal(t, results.KeyMismatch, reserve(t, s, other).State)
}

func TestKeyIsCompletedByWhoeverPublishedItsTask(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	require.ErrorIs(t, s.CompleteKey(t.Context(), by("A"), nil), messages.ErrLost, "nobody has reserved it")
	require.False(t, exists(t, client))
	reserve(t, s, by("A"))
	require.ErrorIs(t, s.CompleteKey(t.Context(), by("B"), nil), messages.ErrLost, "another task")
	other := by("A")
	other.Fingerprint = "g"
	require.ErrorIs(t, s.CompleteKey(t.Context(), other, nil), messages.ErrLost, "another payload")

	lapse(t, client)
	reserve(t, s, by("B"))
	require.NoError(t, s.CompleteKey(t.Context(), by("A"), []byte("a")), "late, but it was published")
	require.NoError(t, s.ReleaseKey(t.Context(), by("B")), "B's publish failed: the task is there all the same")
	require.Equal(t, results.Reserved{State: results.KeyDone, ID: "id-A", Answer: []byte("a")}, reserve(t, s, by("C")))
}

func TestKeyLivesForTheTTLFromItsFirstReservation(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	s := results.New(results.Options{Client: client, TTL: time.Hour, PendingTTL: 1000 * time.Hour})
	name := by("").Name()
	reserve(t, s, by("A"))
	ttl, err := client.PTTL(t.Context(), name).Result()
	require.NoError(t, err)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))

	require.NoError(t, client.PExpire(t.Context(), name, time.Minute).Err()) // 59 minutes later
	steps := []func(){
		func() { reserve(t, s, by("A")) },
		func() { lapse(t, client); reserve(t, s, by("B")) },
		func() { require.NoError(t, s.ReleaseKey(t.Context(), by("B"))) },
		func() { reserve(t, s, by("C")) },
		func() { require.NoError(t, s.CompleteKey(t.Context(), by("A"), []byte("a"))) },
		func() { reserve(t, s, by("D")) },
	}
	for i, step := range steps {
		step()
		ttl, err := client.PTTL(t.Context(), name).Result()
		require.NoError(t, err)
		require.Positive(t, ttl, "step %d", i)
		require.LessOrEqual(t, ttl, time.Minute, "step %d makes it outlive the task record", i)
	}
}

func TestOnlyOneOfManyHoldsAKey(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	round := func(want results.KeyState, id string) {
		t.Helper()
		answers := make([]results.Reserved, 50)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				r := by(fmt.Sprintf("%s-%d", want, i))
				answers[i], _ = s.ReserveKey(t.Context(), r, keyLease)
			})
		}
		wg.Wait()
		states := map[results.KeyState]int{}
		for _, a := range answers {
			states[a.State]++
			require.Equal(t, answers[0].ID, a.ID, "everybody is told of the same task")
			if id != "" {
				require.Equal(t, id, a.ID)
			}
		}
		require.Equal(t, map[results.KeyState]int{want: 1, results.KeyBusy: 49}, states)
	}
	round(results.KeyReserved, "")
	id, err := client.HGet(t.Context(), by("").Name(), "id").Result()
	require.NoError(t, err)
	lapse(t, client)
	round(results.KeyTaken, id)
}

func TestKeysWorkInAClusterAndAfterARestart(t *testing.T) {
	t.Parallel()
	client := open(t, "redis://"+startCluster(t)+"?cluster=true&"+strings.TrimPrefix(patient, "?"))
	s := storeOn(t, client)
	for i := range 20 {
		r := by("A")
		r.Key = fmt.Sprint(i)
		require.Equal(t, results.KeyReserved, reserve(t, s, r).State)
		require.NoError(t, client.ScriptFlush(t.Context()).Err(), "a server that was restarted has no scripts")
		require.NoError(t, s.ReleaseKey(t.Context(), r))
		require.Equal(t, results.KeyReserved, reserve(t, s, r).State)
		require.NoError(t, s.CompleteKey(t.Context(), r, []byte("a")))
		require.Equal(t, results.KeyDone, reserve(t, s, r).State)
	}
}
