package results_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestATaskThatHasEndedIsDeletedAndDoesNotRunAgain(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	_, err := s.Delete(t.Context(), "t")
	require.ErrorIs(t, err, messages.ErrNotFound)
	recordAll(t, s, []*messages.Result{record("t", messages.Pending, "")})
	a := messages.Attempt{ID: "t"}
	for _, open := range []func(){
		func() {},
		func() { claim(t, s, a, "A") },
		func() { require.NoError(t, settle(t, s, a, "A", messages.Retry, messages.NextRetry)) },
		func() { a.Number = 1; claim(t, s, a, "B") },
	} {
		open()
		deleted, err := s.Delete(t.Context(), "t")
		require.NoError(t, err)
		require.False(t, deleted)
	}
	require.NoError(t, settle(t, s, a, "B", messages.Failure, messages.NextNone))
	deleted, err := s.Delete(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, deleted)
	_, err = s.Get(t.Context(), "t")
	require.ErrorIs(t, err, messages.ErrNotFound)
	require.Zero(t, indexed(t, client))
	require.Equal(t, messages.VerdictFinal, claim(t, s, a, "C").Verdict, "a delivery that comes again")
	require.Greater(t, client.TTL(t.Context(), results.TaskKey("t")).Val(), time.Hour)

	// What Celery's workers have run has no task record.
	require.NoError(t, client.Set(t.Context(), messages.ResultKey("theirs"), `{"status": "SUCCESS", "result": 1, "task_id": "theirs"}`, 0).Err())
	deleted, err = s.Delete(t.Context(), "theirs")
	require.NoError(t, err)
	require.True(t, deleted)
}

func TestATaskThatRunsAnewIsNotDeleted(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	require.NoError(t, settle(t, s, a, "A", messages.Failure, messages.NextNone))
	require.Equal(t, results.Restarted, restart(t, s, 1))
	deleted, err := s.Delete(t.Context(), "t")
	require.NoError(t, err)
	require.False(t, deleted)
	require.Equal(t, messages.Pending, state(t, s, "t"))
}
