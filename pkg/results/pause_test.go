package results_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQueuesArePausedUntilTheyAreResumed(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	for _, q := range []string{"b", "a", "b"} {
		require.NoError(t, s.Pause(t.Context(), q))
	}
	paused, err := s.Paused(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, paused)
	require.EqualValues(t, -1, client.TTL(t.Context(), "lovage:paused").Val(), "it does not end by itself")
	require.NoError(t, s.Resume(t.Context(), "a"))
	require.NoError(t, s.Resume(t.Context(), "nobody's"))
	paused, err = s.Paused(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, paused)
}
