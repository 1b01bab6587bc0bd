package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Open is an open loop: requests are due at a fixed rate, whether or not those
// before them were answered. What counts is the time from when a request was due,
// so one that had to wait for its turn, because those before it took long, has
// taken long itself.
type Open struct {
	Address string
	Request []byte
	// Rate is how many requests are due in a second, Length for how long.
	Rate   float64
	Length time.Duration
	// Clients is how many requests are under way at most. Any more wait.
	Clients int
	// Fresh has each request use a connection of its own. Otherwise each client
	// keeps its connection.
	Fresh bool
	// Patience is how long a client waits for its answer; then it goes without.
	Patience time.Duration
	// Answered is called for each request, by several goroutines.
	Answered func(Answer)
}

// Answer is what has become of a request.
type Answer struct {
	// Number counts the requests from 0 on, in the order in which they are due.
	Number int64
	Due    time.Time
	// Took is the time since it was due.
	Took time.Duration
	// Status is that of HTTP, or 0 when there was no answer.
	Status int
}

// Run returns when all requests have been answered or given up, or with the
// error of a context that ends before.
func (o Open) Run(ctx context.Context) error {
	clients := make([]caller, o.Clients)
	for i := range clients {
		clients[i].Open = o
		if o.Fresh {
			continue
		}
		if err := clients[i].connect(ctx); err != nil {
			return err
		}
		defer clients[i].close()
	}
	var next atomic.Int64
	begin := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range clients {
		g.Go(func() error {
			for {
				n := next.Add(1) - 1
				due := time.Duration(float64(n) / o.Rate * float64(time.Second))
				if due >= o.Length {
					return nil
				}
				at := begin.Add(due)
				if err := Pass(ctx, time.Until(at)); err != nil {
					return err
				}
				status := clients[i].ask(ctx)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				o.Answered(Answer{n, at, time.Since(at), status})
			}
		})
	}
	return g.Wait()
}

// caller is a client of an open loop. It has one request under way at a time.
type caller struct {
	Open
	conn net.Conn
	in   *bufio.Reader
}

func (c *caller) connect(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: c.Patience}).DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	return nil
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// ask sends a request and returns the status of the answer, or 0.
func (c *caller) ask(ctx context.Context) int {
	status, err := c.try(ctx)
	if err != nil || c.Fresh {
		c.close()
	}
	return status
}

func (c *caller) try(ctx context.Context) (int, error) {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return 0, err
		}
	}
	conn := c.conn
	if err := conn.SetDeadline(time.Now().Add(c.Patience)); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := conn.Write(c.Request); err != nil {
		return 0, err
	}
	return readAnswer(c.in)
}
