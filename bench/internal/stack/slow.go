package stack

import (
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
// submitted stays in flight, while the confirms that do come show a broker in
// good health, with which the gateway has no reason to break.
type Slow struct {
	listener net.Listener
	broker   string
	held     atomic.Bool
}

const (
	dropEvery = 20 * time.Millisecond
	// dropSize makes some twelve messages a second, so that no channel of a
	// gateway is without a confirm for as long as would make it suspicious: it
	// has four, and would be after three quarters of a second.
	dropSize = 256
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
	up := &buffer{filled: make(chan struct{}, 1)}
	var copying sync.WaitGroup
	for _, part := range []func(){
		func() { _, _ = io.Copy(client, broker) },
		func() { _, _ = io.Copy(up, client) },
		func() { p.drip(ctx, broker, up) },
	} {
		copying.Go(func() {
			defer cancel()
			part()
		})
	}
	copying.Wait()
}

// drip hands on what the buffer holds: all of it, or a drop from time to time.
func (p *Slow) drip(ctx context.Context, broker io.Writer, up *buffer) {
	tick := time.NewTicker(dropEvery)
	defer tick.Stop()
	for {
		size := dropSize
		if p.held.Load() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		} else {
			size = 1 << 20
			select {
			case <-up.filled:
			case <-ctx.Done():
				return
			}
		}
		if _, err := broker.Write(up.take(size)); err != nil {
			return
		}
	}
}

// buffer holds any number of bytes.
type buffer struct {
	filled chan struct{} // has a token when there may be something to take

	mu   sync.Mutex
	held []byte
}

// Write never blocks and never fails.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = append(b.held, p...)
	b.fill()
	return len(p), nil
}

func (b *buffer) fill() {
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

// take returns at most n bytes, none when there are none.
func (b *buffer) take(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, len(b.held))
	out := b.held[:n:n]
	b.held = b.held[n:]
	if len(b.held) > 0 {
		b.fill()
	} else {
		b.held = nil
	}
	return out
}
