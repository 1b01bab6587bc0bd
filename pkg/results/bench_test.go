package results_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// BenchmarkClaimAndSettle is what one task costs: a claim that writes STARTED
// and a final outcome.
func BenchmarkClaimAndSettle(b *testing.B) {
	client, err := results.Open(devstack.Redis(b))
	require.NoError(b, err)
	defer func() { _ = client.Close() }()
	s := results.New(results.Options{Client: client})
	host, _ := os.Hostname()
	for _, callers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			b.ReportAllocs()
			ids := make(chan int, b.N)
			for i := range b.N {
				ids <- i
			}
			close(ids)
			done := make(chan error, callers)
			b.ResetTimer()
			for range callers {
				go func() { done <- claimAndSettle(b.Context(), s, ids, fmt.Sprintf("%s-%d-%d", host, callers, b.N)) }()
			}
			for range callers {
				require.NoError(b, <-done)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}

func claimAndSettle(ctx context.Context, s *results.Store, ids <-chan int, name string) error {
	for i := range ids {
		a := messages.Attempt{ID: fmt.Sprintf("%s-%d", name, i)}
		if _, err := s.Claim(ctx, a, "A", record(a.ID, messages.Started, "A")); err != nil {
			return err
		}
		err := s.Settle(ctx, results.Settlement{Attempt: a, Token: "A", Result: record(a.ID, messages.Success, "A")})
		if err != nil {
			return err
		}
	}
	return nil
}
