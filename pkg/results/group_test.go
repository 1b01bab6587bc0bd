package results_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// What comes at the same time shares round trips, and each gets its own answer.
func TestClaimsAtTheSameTimeEachGetTheirOwnAnswer(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	const many = 2000
	before := reads(t, client)
	var all sync.WaitGroup
	verdicts := make([]messages.Verdict, many)
	for i := range many {
		all.Go(func() {
			// Two want the same task.
			c, err := s.Claim(t.Context(), messages.Attempt{ID: fmt.Sprintf("t%d", i/2)}, fmt.Sprintf("token%d", i), nil)
			if err == nil {
				verdicts[i] = c.Verdict
			}
		})
	}
	all.Wait()
	for i := 0; i < many; i += 2 {
		require.ElementsMatch(t, []messages.Verdict{messages.VerdictRun, messages.VerdictBusy}, verdicts[i:i+2])
	}
	require.Less(t, reads(t, client)-before, many/2, "reads of the socket")
}

// reads is how often the server has read a socket: about once a round trip.
func reads(t *testing.T, client redis.UniversalClient) (n int) {
	t.Helper()
	for line := range strings.Lines(client.Info(t.Context(), "stats").Val()) {
		if value, ok := strings.CutPrefix(line, "total_reads_processed:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			require.NoError(t, err)
			return n
		}
	}
	require.Fail(t, "no count")
	return 0
}

// A group of more than Redis reads at a time is a transaction: scripts that were
// lost are loaded for it too, and what a full Redis refuses leaves nothing behind.
func TestALargeGroupIsLikeASmallOne(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	const many = 100
	var held []results.Held
	for i := range many {
		a := messages.Attempt{ID: fmt.Sprintf("t%d", i)}
		claim(t, s, a, "A")
		held = append(held, results.Held{Attempt: a, Token: "A"})
	}
	require.NoError(t, client.ScriptFlush(t.Context()).Err())
	states, err := s.Renew(t.Context(), held)
	require.NoError(t, err)
	require.Equal(t, slices.Repeat([]results.LeaseState{results.LeaseHeld}, many), states)

	before := taskRecord(t, client, "t0")
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	states, err = s.Renew(t.Context(), held)
	require.ErrorIs(t, err, messages.ErrStoreUnavailable)
	require.Equal(t, make([]results.LeaseState, many), states)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.Equal(t, before, taskRecord(t, client, "t0"))
}

// Whoever gives up leaves the others alone.
func TestACallerThatGivesUpDoesNotTakeOthersWithIt(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var all sync.WaitGroup
	errs := make([]error, 400)
	for i := range errs {
		ctx := t.Context()
		if i%2 == 0 {
			ctx = gone
		}
		all.Go(func() {
			_, errs[i] = s.Claim(ctx, messages.Attempt{ID: fmt.Sprintf("t%d", i)}, "token", nil)
		})
	}
	all.Wait()
	for i, err := range errs {
		if i%2 == 1 {
			require.NoError(t, err)
		}
	}
}
