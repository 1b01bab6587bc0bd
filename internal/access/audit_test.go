package access_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestTheAuditIsKeptAndReadNewestFirst(t *testing.T) {
	t.Parallel()
	_, client := newRedis(t)
	a := access.NewAudit(client)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	for i := range 5 {
		a.Record(access.Entry{At: time.Now(), Who: "ada", Action: "pause-queue", Target: fmt.Sprint(i), Outcome: "ok", Status: 200})
	}
	require.Eventually(t, func() bool {
		all, err := a.List(t.Context(), "", 10)
		return err == nil && len(all) == 5
	}, 30*time.Second, 5*time.Millisecond)
	page, err := a.List(t.Context(), "", 2)
	require.NoError(t, err)
	require.Equal(t, []string{"4", "3"}, []string{page[0].Target, page[1].Target})
	page, err = a.List(t.Context(), page[1].ID, 10)
	require.NoError(t, err)
	require.Len(t, page, 3)
	require.Equal(t, "2", page[0].Target)
	for _, cursor := range []string{"+", "(1-1", "x", "1-1 COUNT 5", "-1"} {
		_, err = a.List(t.Context(), cursor, 1)
		require.ErrorIs(t, err, access.ErrCursor, cursor)
	}
	a.Record(access.Entry{Action: "last"})
	stop()
	require.NoError(t, <-ended)
	page, err = a.List(t.Context(), "", 1)
	require.NoError(t, err)
	require.Equal(t, "last", page[0].Action, "what waits at the end is written")
	require.Zero(t, a.Dropped())
}

func TestTheAuditIsBounded(t *testing.T) {
	t.Parallel()
	_, client := newRedis(t)
	for i := range 130 { // 100 in a go
		pipe := client.Pipeline()
		for range 100 {
			pipe.XAdd(t.Context(), access.XAdd([]byte(fmt.Sprint(i))))
		}
		_, err := pipe.Exec(t.Context())
		require.NoError(t, err)
	}
	n, err := client.XLen(t.Context(), "lovage:audit").Result()
	require.NoError(t, err)
	require.InDelta(t, 10_000, n, 500)

	gone, err := results.Open("redis://127.0.0.1:1")
	require.NoError(t, err)
	t.Cleanup(func() { _ = gone.Close() })
	a := access.NewAudit(gone)
	for range 1500 {
		a.Record(access.Entry{})
	}
	require.EqualValues(t, 500, a.Dropped(), "nobody waits for Redis")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, a.Run(ctx))
	require.EqualValues(t, 1500, a.Dropped())
	_, err = a.List(t.Context(), "", 1)
	require.ErrorIs(t, err, access.ErrUnavailable)
}
