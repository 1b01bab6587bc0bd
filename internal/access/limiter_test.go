package access_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestBucketsFillAndEmpty(t *testing.T) {
	t.Parallel()
	rate, err := access.NewRate(2, 4)
	require.NoError(t, err)
	var b access.Buckets
	now := time.Unix(1_000_000, 0)
	for left := 3; left >= 0; left-- {
		q := b.Take("a", rate, now)
		require.Equal(t, access.Quota{Limit: 4, Window: 2 * time.Second, Remaining: left, Reset: time.Duration(4-left) * 500 * time.Millisecond}, q)
	}
	q := b.Take("a", rate, now)
	require.Equal(t, 500*time.Millisecond, q.RetryAfter)
	require.Zero(t, q.Remaining)
	require.Equal(t, q, b.Take("a", rate, now), "what was refused costs nothing")
	require.Zero(t, b.Take("b", rate, now).RetryAfter, "another one has a bucket of its own")
	now = now.Add(500 * time.Millisecond)
	require.Zero(t, b.Take("a", rate, now).RetryAfter)
	require.Positive(t, b.Take("a", rate, now).RetryAfter)
	now = now.Add(time.Hour)
	require.Equal(t, 3, b.Take("a", rate, now).Remaining, "it never holds more than the burst")
}

func TestARateIsSharedByGatewaysAndKeptWithoutRedis(t *testing.T) {
	t.Parallel()
	_, client := newRedis(t)
	rule, err := access.NewRate(0.01, 3)
	require.NoError(t, err)
	first, second := access.NewLimiter(client, rule, zap.NewNop()), access.NewLimiter(client, rule, zap.NewNop())
	first.SetTimeout(time.Minute) // the machine may be busy
	second.SetTimeout(time.Minute)
	who := &access.Grant{Who: "shop"}
	for i, l := range []*access.Limiter{first, second, first} {
		q := l.Take(t.Context(), who)
		require.Zero(t, q.RetryAfter)
		require.Equal(t, 2-i, q.Remaining)
		require.Equal(t, 300*time.Second, q.Window)
	}
	for _, l := range []*access.Limiter{first, second} {
		q := l.Take(t.Context(), who)
		require.InDelta(t, 100, q.RetryAfter.Seconds(), 10)
		require.Equal(t, 3, q.Limit)
	}
	require.Zero(t, first.Take(t.Context(), &access.Grant{Who: "other"}).RetryAfter)
	require.Positive(t, client.TTL(t.Context(), "lovage:rate:shop").Val(), "what is full again is forgotten")
	wide, err := access.NewRate(1e6, 1e6)
	require.NoError(t, err)
	require.Equal(t, 999_999, first.Take(t.Context(), &access.Grant{Who: "wide", Rate: wide}).Remaining, "its own rate counts before the rule")
	require.Zero(t, access.NewLimiter(client, access.Rate{}, zap.NewNop()).Take(t.Context(), who), "no rule, no limit")

	gone, err := results.Open("redis://127.0.0.1:1")
	require.NoError(t, err)
	t.Cleanup(func() { _ = gone.Close() })
	alone := access.NewLimiter(gone, rule, zap.NewNop())
	for range 3 {
		require.Zero(t, alone.Take(t.Context(), who).RetryAfter)
	}
	require.Positive(t, alone.Take(t.Context(), who).RetryAfter)
}

func TestRatesThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, r := range []access.Rate{{PerSecond: -1}, {PerSecond: 1e7}, {PerSecond: 1e-9}, {Burst: 5}, {PerSecond: 1, Burst: -1}, {PerSecond: 1, Burst: 1e7}} {
		_, err := access.NewRate(r.PerSecond, r.Burst)
		require.Error(t, err, r)
	}
	_, err := access.NewRate(0, 0)
	require.NoError(t, err, "no limit")
}
