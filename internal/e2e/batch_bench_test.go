package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// BenchmarkBatch compares one batch with what a hand-written loop over
// amqp091-go gets into the same queue: the same bytes, and the best of three
// ways to wait for the confirms. It measures them in turn, five times, and
// reports the medians.
func BenchmarkBatch(b *testing.B) {
	s := newStack(b)
	s.idleQueue()
	s.sleep(1, "?queue=default")
	ch := s.channel()
	sample, ok, err := ch.Get("default", true)
	require.NoError(b, err)
	require.True(b, ok)

	const rounds, length = 5, 2 * time.Second
	shapes := [][2]int{{1, 1000}, {8, 100}, {4, 256}}
	var batch []float64
	raw := make([][]float64, len(shapes))
	for b.Loop() {
		for range rounds {
			batch = append(batch, s.batchRate(b, length))
			for i, shape := range shapes {
				raw[i] = append(raw[i], s.rawRate(b, sample, shape[0], shape[1], length))
			}
		}
	}
	best := 0.0
	for i, shape := range shapes {
		b.ReportMetric(median(raw[i]), fmt.Sprintf("raw-%dx%d/s", shape[0], shape[1]))
		best = max(best, median(raw[i]))
	}
	b.ReportMetric(median(batch), "batch/s")
	b.ReportMetric(median(batch)/best, "ratio")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// idleQueue leaves a queue that is known and that nobody works in.
func (s *stack) idleQueue() {
	s.t.Helper()
	w := s.worker("LOVAGE_QUEUE=default")
	w.signal(syscall.SIGTERM)
	require.Equal(s.t, 0, w.exit())
}

// batchRate sends one batch for a while and returns its items a second.
func (s *stack) batchRate(b *testing.B, length time.Duration) float64 {
	b.Helper()
	defer s.purge("default")
	const lines = 100
	block := bytes.Repeat([]byte(`{"task":"sleep_task","kwargs":{"duration":1},"options":{"queue":"default"}}`+"\n"), lines)
	in, out := io.Pipe()
	begun := time.Now()
	sent := make(chan int, 1)
	go func() {
		n := 0
		for time.Since(begun) < length {
			if _, err := out.Write(block); err != nil {
				break
			}
			n += lines
		}
		_ = out.Close()
		sent <- n
	}()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.url+"/v1/batches", in)
	require.NoError(b, err)
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	require.NoError(b, err)
	defer func() { _ = res.Body.Close() }()
	accepted := 0
	buf := make([]byte, 64<<10)
	var rest []byte
	for {
		n, err := res.Body.Read(buf)
		rest = append(rest, buf[:n]...)
		if end := bytes.LastIndexByte(rest, '\n') + 1; end > 0 {
			accepted += bytes.Count(rest[:end], []byte(`"status":202`))
			rest = append(rest[:0], rest[end:]...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(b, err)
	}
	require.Equal(b, <-sent, accepted)
	return float64(accepted) / time.Since(begun).Seconds()
}

// rawRate publishes for a while over some channels of one connection, with so
// many messages in flight on each.
func (s *stack) rawRate(b *testing.B, sample amqp.Delivery, channels, window int, length time.Duration) float64 {
	b.Helper()
	defer s.purge("default")
	conn, err := amqp.Dial(s.amqp)
	require.NoError(b, err)
	defer func() { _ = conn.Close() }()
	m := amqp.Publishing{
		Headers: sample.Headers, ContentType: sample.ContentType, ContentEncoding: sample.ContentEncoding,
		DeliveryMode: amqp.Persistent, CorrelationId: sample.CorrelationId, MessageId: sample.MessageId, Body: sample.Body,
	}
	counts := make([]int, channels)
	g, ctx := errgroup.WithContext(b.Context())
	begun := time.Now()
	for i := range channels {
		g.Go(func() error {
			n, err := rawLoop(ctx, conn, m, window, func() bool { return time.Since(begun) < length })
			counts[i] = n
			return err
		})
	}
	require.NoError(b, g.Wait())
	took := time.Since(begun).Seconds()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / took
}

// rawLoop is what one would write by hand.
func rawLoop(ctx context.Context, conn *amqp.Connection, m amqp.Publishing, window int, more func() bool) (int, error) {
	ch, err := conn.Channel()
	if err != nil {
		return 0, err
	}
	if err := ch.Confirm(false); err != nil {
		return 0, err
	}
	flying := make([]*amqp.DeferredConfirmation, window)
	n := 0
	settle := func(c *amqp.DeferredConfirmation) error {
		if c == nil {
			return nil
		}
		if ok, err := c.WaitContext(ctx); err != nil || !ok {
			return fmt.Errorf("not confirmed: %w", err)
		}
		return nil
	}
	for ; more(); n++ {
		slot := &flying[n%window]
		if err := settle(*slot); err != nil {
			return n, err
		}
		if *slot, err = ch.PublishWithDeferredConfirmWithContext(ctx, "", "default", true, false, m); err != nil {
			return n, err
		}
	}
	for _, c := range flying {
		if err := settle(c); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *stack) purge(queue string) {
	s.t.Helper()
	conn, err := amqp.Dial(s.amqp)
	require.NoError(s.t, err)
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	require.NoError(s.t, err)
	_, err = ch.QueuePurge(queue, false)
	require.NoError(s.t, err)
}
