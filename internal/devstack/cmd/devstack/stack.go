package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// stack is the development stack of one checkout.
type stack struct {
	root     string
	source   string // where the services are built
	services []service
	print    func(format string, args ...any)
	out      io.Writer
	// policy is the file that Debian's packages ask before they start a service,
	// and uid who we are; they decide how something is installed.
	policy string
	uid    int
}

func newStack(root string, out io.Writer) *stack {
	var mu sync.Mutex
	return &stack{
		root: root, source: root, services: shippedServices(), out: out,
		policy: "/usr/sbin/policy-rc.d", uid: os.Geteuid(),
		print: func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			_, _ = fmt.Fprintf(out, format+"\n", args...)
		},
	}
}

// moduleRoot returns the nearest directory upwards that has a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the checkout: no go.mod here or above")
		}
		dir = filepath.Dir(dir)
	}
}

func (s *stack) run(elem ...string) string {
	return filepath.Join(append([]string{s.root, ".run"}, elem...)...)
}

// locked runs f with the state, while no other command works on this stack.
func (s *stack) locked(ctx context.Context, f func(*state) error) error {
	if err := os.MkdirAll(s.run("log"), 0o700); err != nil {
		return fmt.Errorf("make .run: %w", err)
	}
	lock, err := os.OpenFile(s.run("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock .run: %w", err)
	}
	defer func() { _ = lock.Close() }()
	for syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("wait for another devstack command: %w", err)
		}
	}
	st, err := loadState(s.run())
	if err != nil {
		return err
	}
	return f(st)
}

type upCommand struct{}

// Run starts the stack.
func (upCommand) Run(ctx context.Context, s *stack) error {
	return s.locked(ctx, func(st *state) error { return s.up(ctx, st) })
}

// up starts what does not run, and returns when everything answers. The servers
// start while the services are built.
func (s *stack) up(ctx context.Context, st *state) error {
	begin := time.Now()
	docker, err := s.prepare(ctx, st)
	if err != nil {
		return err
	}
	if docker {
		err = s.composeUp(ctx, st)
	} else {
		err = s.upNative(ctx, st)
	}
	if err != nil {
		return err
	}
	if err := st.writeEnvironment(); err != nil {
		return err
	}
	p := st.ports()
	s.print("")
	s.print("Gateway   %s (its API: %s/docs)", st.url(), st.url())
	s.print("RabbitMQ  amqp://guest:guest@127.0.0.1:%d/ (console: http://127.0.0.1:%d, guest/guest)", p.AMQP, p.Management)
	s.print("Redis     redis://127.0.0.1:%d/0", p.Redis)
	s.print("Logs in .run/log, addresses in .run/env. Up after %.1f s.", time.Since(begin).Seconds())
	return nil
}

func (s *stack) upNative(ctx context.Context, st *state) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return s.startRabbitMQ(inner, st) })
	group.Go(func() error { return s.startRedis(inner, st) })
	group.Go(func() error { return s.buildServices(inner) })
	if err := group.Wait(); err != nil {
		return err
	}
	group, inner = errgroup.WithContext(ctx)
	for _, service := range s.services {
		group.Go(func() error { return s.startService(inner, st, service) })
	}
	return group.Wait()
}

type downCommand struct{}

// Run stops the stack.
func (downCommand) Run(ctx context.Context, s *stack) error {
	return s.locked(ctx, func(st *state) error { return s.down(ctx, st) })
}

// down stops what runs: first what takes work, then what it needs.
func (s *stack) down(ctx context.Context, st *state) error {
	if st.Docker {
		return s.compose(ctx, st, "down", "--remove-orphans")
	}
	for _, p := range []struct {
		name  string
		grace time.Duration
	}{
		{"gateway", 30 * time.Second},
		{"worker", 60 * time.Second},
		{"redis", 20 * time.Second},
		{"rabbitmq", 60 * time.Second},
		{"epmd", 5 * time.Second},
	} {
		if err := s.stop(ctx, st, p.name, p.grace); err != nil {
			return err
		}
	}
	return nil
}

// stop ends one process if it is still the one that the stack has started.
func (s *stack) stop(ctx context.Context, st *state, name string, grace time.Duration) error {
	if p, running := st.process(name); running {
		s.print("stopping %s (pid %d)", name, p.PID())
		bounded, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if err := p.Stop(bounded); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
	}
	return st.stopped(name)
}

type cleanCommand struct{}

// Run stops the stack and removes .run and bin.
func (cleanCommand) Run(ctx context.Context, s *stack) error {
	err := s.locked(ctx, func(st *state) error {
		if st.Docker {
			return s.compose(ctx, st, "down", "--remove-orphans", "--volumes")
		}
		return s.down(ctx, st)
	})
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(s.run()), os.RemoveAll(filepath.Join(s.root, "bin")))
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
