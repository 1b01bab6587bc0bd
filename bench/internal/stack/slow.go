package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Slow stands between a gateway and the broker and can let messages through
// drop by drop. It takes them from the gateway as fast as they come. So what was
// submitted stays in flight, while the confirms that do come, on every channel,
// show a broker in good health, with which the gateway has no reason to break.
type Slow struct {
	listener net.Listener
	broker   string
	held     atomic.Bool
}

const (
	// dropEvery is how often each channel may send a drop. A gateway would get
	// suspicious after three quarters of a second without any confirm.
	dropEvery = 450 * time.Millisecond
	// drop is how many frames that is: one message.
	drop = 3
)

// Slow returns a proxy that listens and does nothing until Run is called.
func (s *Stack) Slow(ctx context.Context) (*Slow, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &Slow{listener: l, broker: s.RabbitMQ.Address()}, nil
}

// AMQPURL is the broker's address by way of the proxy.
func (p *Slow) AMQPURL(s *Stack) string {
	return strings.Replace(s.RabbitMQ.URL(), p.broker, p.listener.Addr().String(), 1)
}

// Hold begins or ends to hold up what goes to the broker.
func (p *Slow) Hold(on bool) { p.held.Store(on) }

// Run serves until ctx ends, and returns when all connections are closed.
func (p *Slow) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { _ = p.listener.Close() })()
	for {
		client, err := p.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		all.Go(func() { p.serve(ctx, client) })
	}
}

// serve copies both ways until either side closes.
func (p *Slow) serve(ctx context.Context, client net.Conn) {
	broker, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.broker)
	if err != nil {
		_ = client.Close()
		return
	}
	defer func() { _ = errors.Join(client.Close(), broker.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = errors.Join(client.Close(), broker.Close()) })()
	up := newFrames()
	var copying sync.WaitGroup
	for _, part := range []func(){
		func() { _, _ = io.Copy(client, broker) },
		func() { _ = up.readFrom(bufio.NewReader(client)) },
		func() { p.drip(ctx, broker, up) },
	} {
		copying.Go(func() {
			defer cancel()
			part()
		})
	}
	copying.Wait()
}

// drip hands on what has come: all of it, or a drop from time to time.
func (p *Slow) drip(ctx context.Context, broker io.Writer, up *frames) {
	tick := time.NewTicker(dropEvery)
	defer tick.Stop()
	for {
		var next []byte
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			next = up.take(drop)
		case <-up.come:
			if p.held.Load() {
				continue // to the next tick
			}
			next = up.take(all)
		}
		if _, err := broker.Write(next); err != nil {
			return
		}
	}
}
