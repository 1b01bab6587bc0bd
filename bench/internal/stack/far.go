package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Far is a network with latency: what is sent through it, either way, arrives so
// much later. It runs in this process, whose processor time counts as that of the
// clients, and costs everybody the same for each piece that is sent.
type Far struct {
	delay time.Duration
	// ways are the addresses to connect to, by those behind them.
	ways    map[string]string
	ended   chan struct{}
	serving sync.WaitGroup
}

// GoFar puts latency between the servers and the programs that are started from
// now on, until [Stack.Near]. What lies between a program and its clients is
// for [Stack.FarFrom].
func (s *Stack) GoFar(ctx context.Context, delay time.Duration) error {
	s.far = &Far{delay: delay, ways: map[string]string{}, ended: make(chan struct{})}
	servers := []string{s.RabbitMQ.Address(), s.Redis.Address()}
	if s.postgres != nil {
		servers = append(servers, s.postgres.Address())
	}
	for _, address := range servers {
		if err := s.far.open(ctx, address); err != nil {
			return errors.Join(err, s.Near())
		}
	}
	return nil
}

// Near ends the latency, and the connections that have it.
func (s *Stack) Near() error {
	if s.far == nil {
		return nil
	}
	close(s.far.ended)
	s.far.serving.Wait()
	s.far = nil
	return nil
}

// FarFrom is a program as clients see it from afar.
func (s *Stack) FarFrom(ctx context.Context, v *Service) (*Service, error) {
	if err := s.far.open(ctx, v.Address); err != nil {
		return nil, err
	}
	return v.Via(s.far.ways[v.Address]), nil
}

// by is a URL with an address, by the way that leads there now.
func (s *Stack) by(url, address string) string {
	if s.far == nil || s.far.ways[address] == "" {
		return url
	}
	return strings.Replace(url, address, s.far.ways[address], 1)
}

func (s *Stack) amqpURL() string  { return s.by(s.RabbitMQ.URL(), s.RabbitMQ.Address()) }
func (s *Stack) redisURL() string { return s.by(s.Redis.URL(), s.Redis.Address()) }

// open listens for whoever connects to an address. The context bounds nothing
// after that.
func (f *Far) open(ctx context.Context, address string) error {
	ctx = context.WithoutCancel(ctx)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	f.ways[address] = l.Addr().String()
	f.serving.Go(func() {
		<-f.ended
		_ = l.Close()
	})
	f.serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // it is closed
			}
			f.serving.Go(func() { f.serve(ctx, client, address) })
		}
	})
	return nil
}

// serve copies both ways until either side closes, or the network ends.
func (f *Far) serve(ctx context.Context, client net.Conn, address string) {
	server, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		_ = client.Close()
		return
	}
	var once sync.Once
	over := make(chan struct{})
	end := func() { once.Do(func() { close(over) }) }
	var copying sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		copying.Go(func() {
			defer end()
			f.late(way[0], way[1], over)
		})
	}
	select {
	case <-over:
	case <-f.ended:
		end()
	}
	_ = errors.Join(client.Close(), server.Close())
	copying.Wait()
}

// pieces is how many can be on their way at the same time.
const pieces = 1024

type piece struct {
	due  time.Time
	data []byte
}

// late hands on what it reads when it is due, until one of both fails or it is
// over.
func (f *Far) late(from, to net.Conn, over <-chan struct{}) {
	flying := make(chan piece, pieces)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer func() { _ = from.Close() }() // which ends the reading
	reading.Go(func() {
		defer close(flying)
		in := make([]byte, 64<<10)
		for {
			n, err := from.Read(in)
			if err != nil {
				return
			}
			select {
			case flying <- piece{time.Now().Add(f.delay), bytes.Clone(in[:n])}:
			case <-over:
				return
			}
		}
	})
	wait := time.NewTimer(0)
	defer wait.Stop()
	for p := range flying {
		wait.Reset(time.Until(p.due))
		select {
		case <-wait.C:
		case <-over:
			return
		}
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
}
