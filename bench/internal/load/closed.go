package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// Closed is a closed loop: each client sends its next request when it has the
// answer to the one before, over one connection that it keeps.
type Closed struct {
	Address string
	Request []byte
	// Status is the answer that counts as success.
	Status  int
	Clients int
	// Warm is how long the clients run before anything is counted, Length how
	// long they are counted; longer when there was no answer at all until then.
	Warm, Length time.Duration
	// Mark is called at the beginning and at the end of what is counted.
	Mark func()

	answered func()
}

// Outcome is what a run has counted.
type Outcome struct {
	// Answers are the successful ones, Failed all others.
	Answers, Failed int64
	Took            time.Duration
	// Latency holds the time to answer of each success, in nanoseconds.
	Latency *hdrhistogram.Histogram
}

// PerSecond is the rate of successful answers.
func (o Outcome) PerSecond() float64 { return float64(o.Answers) / o.Took.Seconds() }

const (
	warming = iota
	counting
	ending
)

// patience is how long an answer may take before the run fails.
const patience = 30 * time.Second

// Run blocks until the loop is over. It fails with the first connection that
// fails, and when there was no success at all.
func (c Closed) Run(ctx context.Context) (Outcome, error) {
	g, ctx := errgroup.WithContext(ctx)
	var phase atomic.Int32
	answered := make(chan struct{})
	var first sync.Once
	c.answered = func() { first.Do(func() { close(answered) }) }
	clients := make([]client, c.Clients)
	for i := range clients {
		clients[i].latency = hdrhistogram.New(1, int64(2*patience), 3)
		g.Go(func() error { return clients[i].run(ctx, c, &phase) })
	}
	var begun time.Time
	var took time.Duration
	g.Go(func() error {
		defer phase.Store(ending)
		if err := Pass(ctx, c.Warm); err != nil {
			return err
		}
		c.Mark()
		begun = time.Now()
		phase.Store(counting)
		if err := Pass(ctx, c.Length); err != nil {
			return err
		}
		select {
		case <-answered:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		phase.Store(ending)
		took = time.Since(begun)
		c.Mark()
		return nil
	})
	if err := g.Wait(); err != nil {
		return Outcome{}, err
	}
	return merge(clients, took)
}

func merge(clients []client, took time.Duration) (Outcome, error) {
	all := Outcome{Took: took, Latency: clients[0].latency}
	last := 0
	for i, c := range clients {
		if i > 0 {
			all.Latency.Merge(c.latency)
		}
		all.Failed += c.failed
		last = max(last, c.last)
	}
	all.Answers = all.Latency.TotalCount()
	if all.Answers == 0 {
		return all, fmt.Errorf("%d requests were answered %d, and none as wanted", all.Failed, last)
	}
	return all, nil
}

// client is one of those in the loop, with what it has counted.
type client struct {
	latency *hdrhistogram.Histogram
	failed  int64
	last    int // the last status that was not a success
}

// run sends requests until the loop ends.
func (l *client) run(ctx context.Context, c Closed, phase *atomic.Int32) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(c.Warm + c.Length + patience)); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	for phase.Load() != ending {
		begun := time.Now()
		if _, err := conn.Write(c.Request); err != nil {
			return fmt.Errorf("send a request: %w", err)
		}
		status, err := readAnswer(in)
		if err != nil {
			return err
		}
		if phase.Load() != counting {
			continue
		}
		c.answered()
		if status != c.Status {
			l.failed++
			l.last = status
			continue
		}
		if err := l.latency.RecordValue(int64(time.Since(begun))); err != nil {
			return err
		}
	}
	return nil
}

// Pass returns after d, or with the error of a context that ends before.
func Pass(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
