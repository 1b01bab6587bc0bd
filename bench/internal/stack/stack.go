// Package stack holds what a measurement runs on: a RabbitMQ and a Redis that
// nobody else uses, and the programs, each a process of its own.
package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/devstack" //nolint:depguard // a benchmark starts servers as tests do
)

// Queue is the quorum queue of all measurements.
const Queue = "bench"

// Server keeps tasks. All of it blocks until it is so.
type Server interface {
	// Freeze has it stand still: connections to it succeed, and nothing answers.
	Freeze() error
	Thaw() error
	// Kill ends it at once; its data stays. Start starts it again.
	Kill() error
	Start(ctx context.Context) error
}

// Stack is not safe for concurrent use.
type Stack struct {
	RabbitMQ *devstack.RabbitMQInstance
	Redis    *devstack.RedisInstance

	dir      string
	services []*Service
	conn     *amqp.Connection
	channel  *amqp.Channel
	records  *redis.Client
	postgres *Postgres
	// far is what programs that are started now have between them and the servers.
	far *Far
}

// Start builds the programs and starts the servers. The working directory is
// that of the bench module.
func Start(ctx context.Context) (s *Stack, err error) {
	s = &Stack{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "lovage-bench-"); err != nil {
		return s, fmt.Errorf("make directory: %w", err)
	}
	g, starting := errgroup.WithContext(ctx)
	g.Go(func() error { return s.build(starting) })
	g.Go(func() (err error) {
		s.RabbitMQ, err = devstack.StartRabbitMQ(starting, devstack.RabbitMQOptions{})
		return err
	})
	g.Go(func() (err error) {
		s.Redis, err = devstack.StartRedis(starting, devstack.RedisOptions{})
		return err
	})
	if err = g.Wait(); err != nil {
		return s, err
	}
	o, err := redis.ParseURL(s.Redis.URL())
	if err != nil {
		return s, err
	}
	s.records = redis.NewClient(o)
	return s, s.Reconnect()
}

// Reconnect connects to RabbitMQ, once more if it has been away.
func (s *Stack) Reconnect() (err error) {
	if s.conn != nil {
		_ = s.conn.CloseDeadline(time.Now().Add(time.Second)) // it may be broken
	}
	if s.conn, err = amqp.Dial(s.RabbitMQ.URL()); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if s.channel, err = s.conn.Channel(); err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	return nil
}

// Started is how many programs were started so far, for [Stack.EndSince].
func (s *Stack) Started() int { return len(s.services) }

// EndSince ends the programs that were started since there were so many.
func (s *Stack) EndSince(started int) error {
	var errs []error
	for _, v := range s.services[started:] {
		errs = append(errs, v.End())
	}
	return errors.Join(errs...)
}

// Close kills everything and removes its files.
func (s *Stack) Close() error {
	errs := []error{s.Near()}
	for _, v := range s.services {
		errs = append(errs, v.killAll())
	}
	if s.conn != nil {
		_ = s.conn.CloseDeadline(time.Now().Add(time.Second)) // its broker goes anyway
	}
	if s.records != nil {
		errs = append(errs, s.records.Close())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Close())
	}
	if s.Redis != nil {
		errs = append(errs, s.Redis.Close())
	}
	if s.RabbitMQ != nil {
		errs = append(errs, s.RabbitMQ.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// Service is one of the programs.
type Service struct {
	*devstack.Process
	// Address is where it serves HTTP.
	Address string
	port    *devstack.Port
	name    string
	log     string
}

// Via is the same program with another address.
func (v *Service) Via(address string) *Service {
	via := *v
	via.Address = address
	return &via
}

// Explain adds to an error what the program has logged at last, if it has ended.
func (v *Service) Explain(err error) error {
	if err == nil || v.Alive() {
		return err
	}
	text, _ := os.ReadFile(v.log)
	const enough = 4000
	return fmt.Errorf("%w: %s has ended: %s", err, v.name, text[max(0, len(text)-enough):])
}

// End ends a program that is not needed any more.
func (v *Service) End() error {
	err := v.killAll()
	v.port.Release()
	return err
}

// killAll kills a program and the processes that it has started.
func (v *Service) killAll() error {
	if v.Alive() {
		_ = syscall.Kill(-v.PID(), syscall.SIGKILL) // each has a process group of its own
	}
	return v.Kill()
}

// command is a program and its arguments, with which it is told where to serve.
type command struct {
	name, path string
	args, env  []string
}

// start starts a program of ours; args and env are those beside its address.
func (s *Stack) start(ctx context.Context, name string, args, env func(address string) []string) (*Service, error) {
	v, err := s.spawn(ctx, func(address string) command {
		return command{name, filepath.Join(s.dir, name), args(address), env(address)}
	})
	if err != nil {
		return nil, err
	}
	return v, s.up(ctx, v, name+" serves", func() bool { return connects(ctx, v.Address) })
}

// spawn starts a program and returns at once.
func (s *Stack) spawn(ctx context.Context, of func(address string) command) (*Service, error) {
	port, err := devstack.ReservePort(ctx, 0)
	if err != nil {
		return nil, err
	}
	c := of(port.Address())
	log := filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", filepath.Base(c.name), len(s.services)))
	p, err := devstack.Spawn(ctx, devstack.Spec{Path: c.path, Args: c.args, Env: append(os.Environ(), c.env...), Dir: s.dir, Log: log})
	if err != nil {
		port.Release()
		return nil, err
	}
	v := &Service{Process: p, Address: port.Address(), port: port, name: c.name, log: log}
	s.services = append(s.services, v)
	return v, nil
}

// up waits until a program is up, and ends it when it does not come up.
func (s *Stack) up(ctx context.Context, v *Service, what string, yes func() bool) error {
	err := poll(ctx, what, func() bool { return !v.Alive() || yes() })
	if err == nil && !v.Alive() {
		err = errors.New("start")
	}
	if err != nil {
		return errors.Join(v.Explain(err), v.End())
	}
	return nil
}

func connects(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// poll asks until the answer is yes, for a minute at most.
func poll(ctx context.Context, what string, yes func() bool) error {
	return pollFor(ctx, time.Minute, what, yes)
}

func pollFor(ctx context.Context, limit time.Duration, what string, yes func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited in vain until %s", what))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
