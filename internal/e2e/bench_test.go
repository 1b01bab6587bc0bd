package e2e_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkSubmit compares what one client submits, one task after the other,
// with what 64 do at the same time: they share the broker's round trips. It
// measures both in turn, five times, and reports the medians.
func BenchmarkSubmit(b *testing.B) {
	s := newStack(b)
	s.worker("LOVAGE_QUEUE=unused")
	w := s.start("worker")
	w.await("consumer connected")
	s.await(s.sleep(1, ""), "SUCCESS")
	w.signal(syscall.SIGTERM) // the queue stays, and nobody works in it
	require.Equal(b, 0, w.exit())

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	const rounds, length = 5, 2 * time.Second
	var one, many []float64
	for b.Loop() {
		for range rounds {
			one = append(one, s.rate(b, client, 1, length))
			many = append(many, s.rate(b, client, 64, length))
		}
	}
	slices.Sort(one)
	slices.Sort(many)
	first, last := one[len(one)/2], many[len(many)/2]
	b.ReportMetric(first, "1-client/s")
	b.ReportMetric(last, "64-clients/s")
	b.ReportMetric(last/first, "ratio")
	b.ReportMetric(0, "ns/op")
}

// rate submits for a while and returns the submissions a second.
func (s *stack) rate(b *testing.B, client *http.Client, clients int, length time.Duration) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for range clients {
		all.Go(func() {
			for time.Since(begun) < length {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.url+"/v1/tasks/sleep_task?queue=default", bytes.NewReader([]byte(`{"duration":1}`)))
				if err != nil {
					b.Error(err)
					return
				}
				req.Header.Set("Content-Type", "application/json")
				res, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusAccepted {
					b.Errorf("answered %s", res.Status)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begun).Seconds()
}
