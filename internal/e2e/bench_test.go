package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
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

	const rounds, length = 5, 2 * time.Second
	var one, many []float64
	for b.Loop() {
		for range rounds {
			one = append(one, s.rate(b, 1, length))
			many = append(many, s.rate(b, 64, length))
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

// rate submits for a while and returns the submissions a second. Its clients
// do as little as they can: they share the machine with what they measure.
func (s *stack) rate(b *testing.B, clients int, length time.Duration) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for range clients {
		all.Go(func() {
			n, err := s.hammer(b.Context(), func() bool { return time.Since(begun) < length })
			if err != nil {
				b.Error(err)
			}
			done.Add(n)
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begun).Seconds()
}

// hammer submits one task after the other over one connection.
func (s *stack) hammer(ctx context.Context, more func() bool) (n int64, err error) {
	address := strings.TrimPrefix(s.url, "http://")
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	const body = `{"duration":1}`
	request := fmt.Appendf(nil, "POST /v1/tasks/sleep_task?queue=default HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		address, len(body), body)
	in := bufio.NewReader(conn)
	for ; more(); n++ {
		if _, err := conn.Write(request); err != nil {
			return n, err
		}
		if err := readAccepted(in); err != nil {
			return n, err
		}
	}
	return n, nil
}

// readAccepted reads one answer and wants a 202. It knows of HTTP what our
// answers have: a whole parser costs as much as the gateway does.
func readAccepted(in *bufio.Reader) error {
	status, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 202 ") {
		return fmt.Errorf("answered %s", strings.TrimSpace(status))
	}
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == len("\r\n") {
			_, err := in.Discard(length)
			return err
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
}
