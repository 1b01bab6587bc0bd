package results_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// calls is every call of the store that asks Redis.
func calls(s *results.Store) map[string]func(context.Context) error {
	a := messages.Attempt{ID: "t"}
	return map[string]func(context.Context) error{
		"claim": func(ctx context.Context) error { _, err := s.Claim(ctx, a, "A", nil); return err },
		"begin": func(ctx context.Context) error { return s.Begin(ctx, a, "A") },
		"renew": func(ctx context.Context) error {
			states, err := s.Renew(ctx, []results.Held{{Attempt: a, Token: "A"}, {Attempt: a, Token: "A"}})
			if len(states) != 2 || states[0] != results.LeaseUnknown {
				return errors.Join(err, errors.New("a state without an answer"))
			}
			return err
		},
		"release":  func(ctx context.Context) error { return s.Release(ctx, a, "A") },
		"progress": func(ctx context.Context) error { return s.Progress(ctx, a, "A", record("t", messages.Progress, "A")) },
		"settle": func(ctx context.Context) error {
			return s.Settle(ctx, results.Settlement{Attempt: a, Token: "A", Result: record("t", messages.Success, "A")})
		},
		"reserve key": func(ctx context.Context) error {
			_, err := s.ReserveKey(ctx, results.Reservation{Key: "k", Token: "A"}, time.Second)
			return err
		},
		"complete key": func(ctx context.Context) error {
			return s.CompleteKey(ctx, results.Reservation{Key: "k"}, nil)
		},
		"release key": func(ctx context.Context) error {
			return s.ReleaseKey(ctx, results.Reservation{Key: "k", Token: "A"})
		},
		"done":      func(ctx context.Context) error { return s.Done(ctx, a) },
		"get":       func(ctx context.Context) error { _, err := s.Get(ctx, "t"); return err },
		"list":      func(ctx context.Context) error { _, err := s.List(ctx, results.Filter{}, "", 1); return err },
		"ping":      s.Ping,
		"check":     func(ctx context.Context) error { _, err := s.CheckServer(ctx); return err },
		"announce":  func(ctx context.Context) error { return s.Announce(ctx, messages.WorkerInfo{Name: "w"}, nil) },
		"heartbeat": func(ctx context.Context) error { return s.Heartbeat(ctx, messages.WorkerInfo{Name: "w"}) },
		"leave":     func(ctx context.Context) error { return s.Leave(ctx, messages.WorkerInfo{Name: "w"}) },
		"catalog":   func(ctx context.Context) error { _, err := s.Catalog(ctx); return err },
		"workers":   func(ctx context.Context) error { _, err := s.Workers(ctx); return err },
	}
}

func TestEveryCallEndsByItsContextWhenRedisHangs(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	s := storeOn(t, open(t, server.URL()))
	require.NoError(t, s.Ping(t.Context()))
	server.freeze()
	defer server.thaw()
	for name, call := range calls(s) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begin := time.Now()
		err := call(ctx)
		cancel()
		require.ErrorIs(t, err, messages.ErrStoreUnavailable, name)
		require.NotContains(t, err.Error(), "a state without", name)
		require.Less(t, time.Since(begin), 800*time.Millisecond, name)
	}
}

func TestEveryCallFailsAtOnceWhenRedisIsDown(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	s := storeOn(t, open(t, server.URL()))
	require.NoError(t, s.Ping(t.Context()))
	server.kill()
	for name, call := range calls(s) {
		begin := time.Now()
		err := call(t.Context())
		require.ErrorIs(t, err, messages.ErrStoreUnavailable, name)
		require.Less(t, time.Since(begin), 800*time.Millisecond, name)
	}
	server.start()
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, messages.VerdictRun, claim(t, s, messages.Attempt{ID: "t"}, "A").Verdict)
}

func TestACallerThatGivesUpIsNoOutage(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(s) {
		err := call(ctx)
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, messages.ErrStoreUnavailable, name)
	}
}

func TestAServerThatCannotServeIsAnOutageAndAWrongTypeIsNot(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	require.NoError(t, client.Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())
	require.NoError(t, s.Release(t.Context(), messages.Attempt{ID: "t"}, "A"), "nothing to write")
	_, err := s.Claim(t.Context(), messages.Attempt{ID: "t"}, "A", nil)
	require.ErrorIs(t, err, messages.ErrStoreUnavailable)
	require.NoError(t, client.Do(t.Context(), "replicaof", "no", "one").Err())

	require.NoError(t, client.LPush(t.Context(), results.TaskKey("t"), "x").Err())
	_, err = s.Claim(t.Context(), messages.Attempt{ID: "t"}, "A", nil)
	require.Error(t, err)
	require.NotErrorIs(t, err, messages.ErrStoreUnavailable, "one broken key is not an outage")
}

func TestCheckServerNamesAPolicyThatEvicts(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	warnings, err := s.CheckServer(t.Context())
	require.NoError(t, err)
	require.Empty(t, warnings)

	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	warnings, err = s.CheckServer(t.Context())
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Equal(t, "maxmemory-policy", warnings[0].Setting)
	require.Equal(t, "allkeys-lru", warnings[0].Value)
	require.Contains(t, warnings[0].String(), "should be noeviction")
}

func TestCheckServerSaysUnknownWhereItMayNotLook(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	admin := open(t, server.URL())
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "app", "on", ">pw", "~*", "&*", "+@all", "-info", "-config").Err())
	s := storeOn(t, open(t, "redis://app:pw@"+server.Address()))
	warnings, err := s.CheckServer(t.Context())
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Equal(t, "unknown", warnings[0].Value)
}
