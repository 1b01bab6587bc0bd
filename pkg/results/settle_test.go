package results_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// subscribe returns what is published on the channel of task "t" from now on.
func subscribe(t *testing.T, client redis.UniversalClient) <-chan *redis.Message {
	t.Helper()
	pubsub := client.Subscribe(t.Context(), messages.ResultKey("t"))
	t.Cleanup(func() { _ = pubsub.Close() })
	_, err := pubsub.Receive(t.Context())
	require.NoError(t, err)
	return pubsub.Channel()
}

func next(t *testing.T, published <-chan *redis.Message) string {
	t.Helper()
	select {
	case m := <-published:
		return m.Payload
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nothing was published")
		return ""
	}
}

func TestEveryWriteIsPublishedAsItIsStored(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	published := subscribe(t, client)
	a := messages.Attempt{ID: "t"}
	requirePublished := func(want messages.State) {
		t.Helper()
		stored := client.Get(t.Context(), messages.ResultKey("t")).Val()
		require.Equal(t, stored, next(t, published))
		require.Equal(t, want, state(t, s, "t"))
	}
	claim(t, s, a, "A")
	requirePublished(messages.Started)
	progress := record("t", messages.Progress, "A")
	progress.Progress = &messages.ProgressInfo{Current: 1, Total: 4, Percent: 25}
	require.NoError(t, s.Progress(t.Context(), a, "A", progress))
	requirePublished(messages.Progress)
	require.NoError(t, settle(t, s, a, "A", messages.Retry, messages.NextRetry))
	requirePublished(messages.Retry)
	a.Number = 1
	claim(t, s, a, "A")
	requirePublished(messages.Started)
	require.NoError(t, settle(t, s, a, "A", messages.Success, ""))
	requirePublished(messages.Success)
}

func TestNothingReencodesAResult(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	r := record("t", messages.Success, "A")
	r.Value = json.RawMessage(`{"list":[],"map":{},"big":9007199254740993,"f":1.0,"n":null,"u":"\u00e9 é \u0000"}`)
	r.Args, r.Kwargs = json.RawMessage(`[18446744073709551615]`), json.RawMessage(`{"x":[[]]}`)
	want, err := messages.EncodeResult(r)
	require.NoError(t, err)
	require.NoError(t, s.Settle(t.Context(), results.Settlement{Attempt: a, Token: "A", Result: r}))
	require.Equal(t, string(want), client.Get(t.Context(), messages.ResultKey("t")).Val())
	got, err := s.Get(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, string(r.Value), string(got.Value))
}

func TestIgnoredResultLeavesATombstoneAndNothingElse(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	published := subscribe(t, client)
	a := messages.Attempt{ID: "t"}
	c, err := s.Claim(t.Context(), a, "A", nil)
	require.NoError(t, err)
	require.Equal(t, messages.VerdictRun, c.Verdict)
	require.NoError(t, s.Settle(t.Context(), results.Settlement{
		Attempt: a, Token: "A", Result: record("t", messages.Success, "A"), IgnoreResult: true,
	}))

	_, err = s.Get(t.Context(), "t")
	require.ErrorIs(t, err, messages.ErrNotFound)
	require.Zero(t, indexed(t, client))
	require.InDelta(t, (24 * time.Hour).Seconds(), client.TTL(t.Context(), results.TaskKey("t")).Val().Seconds(), 60)
	require.NoError(t, client.Publish(t.Context(), messages.ResultKey("t"), "the first").Err())
	require.Equal(t, "the first", next(t, published))
	c, err = s.Claim(t.Context(), a, "B", nil)
	require.NoError(t, err)
	require.Equal(t, messages.Claim{Verdict: messages.VerdictFinal, Starts: 1}, c)
}

func TestIgnoredOutcomeIsKeptForItsSuccessorOnly(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	for number, outcome := range []struct {
		state messages.State
		next  messages.Next
	}{{messages.Retry, messages.NextRetry}, {messages.Failure, messages.NextDead}} {
		a.Number = number
		_, err := s.Claim(t.Context(), a, "A", nil)
		require.NoError(t, err)
		require.Zero(t, client.HExists(t.Context(), results.TaskKey("t"), "outcome").Val())
		require.NoError(t, s.Settle(t.Context(), results.Settlement{
			Attempt: a, Token: "A", Result: record("t", outcome.state, "A"), IgnoreResult: true, Next: outcome.next,
		}))
		c, err := s.Claim(t.Context(), a, "B", nil)
		require.NoError(t, err)
		require.Equal(t, outcome.next, c.Next)
		require.Equal(t, outcome.state, c.Result.State)
		require.Equal(t, "bad A", c.Result.Error.Message)
	}
	require.NoError(t, s.Done(t.Context(), a))
	require.False(t, client.HExists(t.Context(), results.TaskKey("t"), "outcome").Val())
	require.Zero(t, client.Exists(t.Context(), messages.ResultKey("t")).Val())
}

func TestOutcomeThatIsNotIgnoredIsKeptOnce(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	require.NoError(t, settle(t, s, a, "A", messages.Failure, messages.NextDead))
	require.False(t, client.HExists(t.Context(), results.TaskKey("t"), "outcome").Val())
}

func TestIgnoredFinalOutcomeRemovesARecordThatIsNotTrueAnyMore(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	require.NoError(t, client.Set(t.Context(), messages.ResultKey("t"), `{"status":"PENDING","task_id":"t"}`, 0).Err())
	a := messages.Attempt{ID: "t"}
	_, err := s.Claim(t.Context(), a, "A", nil)
	require.NoError(t, err)
	require.NoError(t, s.Settle(t.Context(), results.Settlement{
		Attempt: a, Token: "A", Result: record("t", messages.Success, "A"), IgnoreResult: true,
	}))
	_, err = s.Get(t.Context(), "t")
	require.ErrorIs(t, err, messages.ErrNotFound)
}

func TestSettleRefusesWhatIsNoOutcome(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	for _, each := range messages.States() {
		if each.Final() || each == messages.Retry {
			continue
		}
		require.ErrorContains(t, settle(t, s, a, "A", each, ""), "is not an outcome")
	}
	require.ErrorContains(t, s.Settle(t.Context(), results.Settlement{Attempt: a, Token: "A"}), "no result")
	unreadable := record("t", messages.Success, "A")
	unreadable.Value = json.RawMessage(`{`)
	require.ErrorContains(t, s.Settle(t.Context(), results.Settlement{Attempt: a, Token: "A", Result: unreadable}), "JSON")
	require.Equal(t, messages.Started, state(t, s, "t"))
}

func TestATaskStandsInThePartOfTheIndexThatIsItsState(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	submitted := record("t", messages.Pending, "")
	recordAll(t, s, []*messages.Result{submitted})
	stands := func(want messages.State) {
		t.Helper()
		for _, state := range messages.States() {
			score, err := client.ZScore(t.Context(), results.IndexKey(state), "t").Result()
			if results.IndexKey(state) != results.IndexKey(want) {
				require.ErrorIs(t, err, redis.Nil, "in %s", state)
				continue
			}
			require.NoError(t, err, "not in %s", state)
			require.Equal(t, results.IndexEntry(submitted).Score, score, "its place in the list stays") //nolint:testifylint // the same number
		}
	}
	say := func(state messages.State, run, retries int) *messages.Result {
		r := record("t", state, "A")
		r.DateCreated, r.Run, r.Retries = submitted.DateCreated, run, retries
		return r
	}
	attempt := messages.Attempt{ID: "t"}
	begin := func() {
		t.Helper()
		_, err := s.Claim(t.Context(), attempt, "A", nil)
		require.NoError(t, err)
		require.NoError(t, s.Progress(t.Context(), attempt, "A", say(messages.Started, attempt.Run, attempt.Number)))
	}
	end := func(state messages.State) {
		t.Helper()
		require.NoError(t, s.Settle(t.Context(), results.Settlement{
			Attempt: attempt, Token: "A", Result: say(state, attempt.Run, attempt.Number),
		}))
	}
	restart := func() {
		t.Helper()
		attempt = messages.Attempt{ID: "t", Run: attempt.Run + 1}
		_, err := s.Restart(t.Context(), say(messages.Pending, attempt.Run, 0), false)
		require.NoError(t, err)
	}
	stands(messages.Pending)
	begin()
	stands(messages.Started)
	end(messages.Retry)
	stands(messages.Retry)
	attempt.Number = 1
	begin()
	stands(messages.Started)
	end(messages.Failure)
	stands(messages.Failure)
	restart()
	stands(messages.Pending)
	_, _, err := s.Cancel(t.Context(), "t")
	require.NoError(t, err)
	stands(messages.Revoked)
	restart()
	_, err = s.Claim(t.Context(), attempt, "A", nil)
	require.NoError(t, err)
	end(messages.Success)
	stands(messages.Success)
}

func TestPackedResultIsUnpackedForWhoeverAsksForIt(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	a := messages.Attempt{ID: "t"}
	claim(t, s, a, "A")
	r := record("t", messages.Success, "A")
	value := []byte(`"` + strings.Repeat("large ", 1000) + `"`)
	r.Value = value
	r.Pack()
	require.NoError(t, s.Settle(t.Context(), results.Settlement{Attempt: a, Token: "A", Result: r}))

	got, err := s.Get(t.Context(), "t")
	require.NoError(t, err)
	require.JSONEq(t, string(value), string(got.Value))
	ended, outcome, err := s.Cancel(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, results.CancelEnded, outcome)
	require.JSONEq(t, string(value), string(ended.Value))
	page, err := s.List(t.Context(), results.Filter{}, "", 10)
	require.NoError(t, err)
	require.Len(t, page.Results, 1)
	require.Empty(t, page.Results[0].Value, "a list of many would be too much")
	require.Equal(t, len(value), page.Results[0].PackedSize)
}
