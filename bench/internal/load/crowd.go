package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Crowd is many clients that send one request each and wait for the answer, all
// at the same time in the end.
type Crowd struct {
	Address string
	Request []byte
	Status  int
	Clients int
	// Every is how long after one client the next one comes.
	Every time.Duration
	// Patience is how long all of it may take.
	Patience time.Duration

	sent, answered, accepted atomic.Int64
}

// Sent is how many requests are on their way or answered.
func (c *Crowd) Sent() int { return int(c.sent.Load()) }

// Waiting is how many have no answer yet.
func (c *Crowd) Waiting() int { return int(c.sent.Load() - c.answered.Load()) }

// Accepted is how many had the answer that counts as success.
func (c *Crowd) Accepted() int { return int(c.accepted.Load()) }

// Run returns when all are answered, whatever the answers are. It fails with the
// first connection that fails.
func (c *Crowd) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for range c.Clients {
		select {
		case <-tick.C:
			g.Go(func() error { return c.client(ctx) })
		case <-ctx.Done():
			return errors.Join(ctx.Err(), g.Wait())
		}
	}
	return g.Wait()
}

func (c *Crowd) client(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(c.Patience)); err != nil {
		return err
	}
	if _, err := conn.Write(c.Request); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	c.sent.Add(1)
	status, err := readAnswer(bufio.NewReaderSize(conn, 1<<10))
	c.answered.Add(1)
	if err == nil && status == c.Status {
		c.accepted.Add(1)
	}
	return err
}
