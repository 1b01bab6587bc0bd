package results_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

func restart(t *testing.T, s *results.Store, run int) results.RestartState {
	t.Helper()
	r := record("t", messages.Pending, "")
	r.Run = run
	state, err := s.Restart(t.Context(), r, false)
	require.NoError(t, err)
	return state
}

func TestARunBeginsOnceAndTheOneBeforeNeverComesBack(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	require.Equal(t, results.RestartRunning, restart(t, s, 1))
	require.NoError(t, settle(t, s, a, "A", messages.Failure, messages.NextDead))

	published := subscribe(t, client)
	require.Equal(t, results.Restarted, restart(t, s, 1))
	require.Equal(t, client.Get(t.Context(), messages.ResultKey("t")).Val(), next(t, published))
	require.Equal(t, messages.Pending, state(t, s, "t"))
	require.Equal(t, results.Restarted, restart(t, s, 1), "its message may not have been published")
	require.Equal(t, messages.VerdictStale, claim(t, s, a, "B").Verdict)

	again := messages.Attempt{ID: "t", Run: 1}
	require.Equal(t, messages.VerdictRun, claim(t, s, again, "C").Verdict)
	require.NoError(t, settle(t, s, again, "C", messages.Success, messages.NextNone))
	require.Equal(t, results.RestartSuperseded, restart(t, s, 1))
	require.Equal(t, messages.Success, state(t, s, "t"))
	require.Equal(t, results.Restarted, restart(t, s, 2))
	require.Equal(t, results.RestartSuperseded, restart(t, s, 1))
}

// A dead letter outlives everything that Redis knows of its task.
func TestARunBeginsOfATaskThatRedisHasForgotten(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	require.Equal(t, results.Restarted, restart(t, s, 1))
	require.Greater(t, client.PTTL(t.Context(), results.TaskKey("t")).Val(), time.Minute)
	require.Equal(t, messages.VerdictRun, claim(t, s, messages.Attempt{ID: "t", Run: 1}, "A").Verdict)
}

func TestARunWhoseResultIsIgnoredLeavesNoRecord(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	r := record("t", messages.Pending, "")
	r.Run = 1
	answer, err := s.Restart(t.Context(), r, true)
	require.NoError(t, err)
	require.Equal(t, results.Restarted, answer)
	require.Zero(t, client.Exists(t.Context(), messages.ResultKey("t")).Val())
}
