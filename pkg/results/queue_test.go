package results_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestQueuesKeepTheirStateUntilTheNext(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	states := func() map[string]messages.QueueState {
		states, err := s.QueueStates(t.Context())
		require.NoError(t, err)
		return states
	}
	set := func(queue string, state messages.QueueState) {
		require.NoError(t, s.SetQueueState(t.Context(), queue, state))
	}
	require.Empty(t, states())
	for _, q := range []string{"b", "a", "b"} {
		set(q, messages.QueuePaused)
	}
	set("c", messages.QueueDraining)
	require.Equal(t, map[string]messages.QueueState{"a": messages.QueuePaused, "b": messages.QueuePaused, "c": messages.QueueDraining}, states())
	require.EqualValues(t, -1, client.TTL(t.Context(), "lovage:paused").Val(), "it does not end by itself")
	set("a", messages.QueueRunning)
	set("nobody's", messages.QueueRunning)
	set("b", messages.QueueDraining)
	set("c", messages.QueuePaused)
	require.Equal(t, map[string]messages.QueueState{"b": messages.QueueDraining, "c": messages.QueuePaused}, states())
	require.NoError(t, client.HSet(t.Context(), "lovage:paused", "b", "frozen since then").Err())
	require.Equal(t, messages.QueuePaused, states()["b"], "what a later version says is better not run")
}
