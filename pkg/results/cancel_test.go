package results_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// submitted leaves the record of a submission.
func submitted(t *testing.T, s *results.Store, r *messages.Result) {
	t.Helper()
	rec := results.NewRecorder(s, 1)
	require.True(t, rec.Record(r))
	runs(t, rec.Run)
	require.Eventually(t, func() bool {
		_, err := s.Get(t.Context(), r.TaskID)
		return err == nil
	}, 10*time.Second, time.Millisecond)
}

func cancel(t *testing.T, s *results.Store) (messages.State, results.CancelState) {
	t.Helper()
	r, state, err := s.Cancel(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, "t", r.TaskID)
	return r.State, state
}

func TestCancelledTaskThatWaitsIsRevokedAndNeverRuns(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	r := record("t", messages.Pending, "")
	r.ETA = time.Now().Add(100 * 24 * time.Hour)
	submitted(t, s, r)
	published := subscribe(t, client)

	was, outcome := cancel(t, s)
	require.Equal(t, messages.Revoked, was)
	require.Equal(t, results.CancelRevoked, outcome)
	require.Equal(t, client.Get(t.Context(), messages.ResultKey("t")).Val(), next(t, published))
	got, err := s.Get(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, "TaskRevokedError", got.Error.Type)
	require.Equal(t, r.Name, got.Name)
	require.WithinDuration(t, time.Now(), got.DateDone, time.Minute)

	c := claim(t, s, messages.Attempt{ID: "t"}, "A")
	require.Equal(t, messages.VerdictFinal, c.Verdict)
	require.Equal(t, messages.NextNone, c.Next)
	require.Equal(t, messages.Revoked, state(t, s, "t"))
	// The message comes in a hundred days; what stops it must still be there.
	require.Greater(t, client.PTTL(t.Context(), results.TaskKey("t")).Val(), 100*24*time.Hour)

	was, outcome = cancel(t, s)
	require.Equal(t, messages.Revoked, was)
	require.Equal(t, results.CancelEnded, outcome)
}

func TestCancelledTaskThatRunsIsSettledByItsOwner(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	w := results.NewWatcher(client, nil)
	told, stop := w.WatchCancellations()
	defer stop()
	runs(t, w.Run)
	<-told // the watch is in force
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")

	was, outcome := cancel(t, s)
	require.Equal(t, messages.Started, was)
	require.Equal(t, results.CancelRequested, outcome)
	<-told
	states, err := s.Renew(t.Context(), []results.Held{{Attempt: a, Token: "A"}})
	require.NoError(t, err)
	require.Equal(t, []results.LeaseState{results.LeaseCancelled}, states)
	require.NoError(t, settle(t, s, a, "A", messages.Revoked, messages.NextNone))
	require.Equal(t, messages.Revoked, state(t, s, "t"))
}

// A mark outlives its owner: whoever gets the message next revokes the task.
func TestCancellationOutlivesTheWorkerThatWasTold(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	_, outcome := cancel(t, s)
	require.Equal(t, results.CancelRequested, outcome)
	expireLease(t, client, "t")
	require.Equal(t, messages.VerdictCancelled, claim(t, s, a, "B").Verdict)
}

func TestTaskOfADeadWorkerIsRevokedAtOnce(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	expireLease(t, client, "t")
	_, outcome := cancel(t, s)
	require.Equal(t, results.CancelRevoked, outcome)
	require.ErrorIs(t, settle(t, s, a, "A", messages.Success, messages.NextNone), messages.ErrLost)
	require.Equal(t, messages.VerdictFinal, claim(t, s, a, "B").Verdict)
}

// A retry that was stored and not yet published is not published any more, and
// one that was is not run.
func TestCancelledRetryHasNoSuccessor(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	require.NoError(t, settle(t, s, a, "A", messages.Retry, messages.NextRetry))
	_, outcome := cancel(t, s)
	require.Equal(t, results.CancelRevoked, outcome)
	for number, verdict := range []messages.Verdict{messages.VerdictStale, messages.VerdictFinal} {
		c := claim(t, s, messages.Attempt{ID: "t", Number: number}, "B")
		require.Equal(t, verdict, c.Verdict)
		require.Equal(t, messages.NextNone, c.Next)
	}
}

func TestWhatHasEndedIsNotCancelled(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	require.NoError(t, settle(t, s, a, "A", messages.Success, messages.NextNone))
	was, outcome := cancel(t, s)
	require.Equal(t, messages.Success, was)
	require.Equal(t, results.CancelEnded, outcome)
	_, _, err := s.Cancel(t.Context(), "nobody")
	require.ErrorIs(t, err, messages.ErrNotFound)
}
