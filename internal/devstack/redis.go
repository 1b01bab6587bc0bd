package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// RedisOptions says how a Redis is started. The zero value is a Redis of this
// process: a free port, temporary data.
type RedisOptions struct {
	// Dir holds data and log and is kept. Empty: a temporary directory that
	// Close removes.
	Dir string
	// Port is taken if it is free. Zero: any.
	Port int
}

// RedisInstance is a private Redis that answers a write only when it is on the
// disk, and evicts nothing. Its methods are not safe for concurrent use, except
// URL.
type RedisInstance struct {
	dir     string
	tempDir bool
	program string
	port    *Port
	guard   *guard // nil once detached
	server  *Process
}

// StartRedis starts a Redis and returns when it serves. It returns an error that
// wraps [ErrNotInstalled] when there is no redis-server on this machine.
func StartRedis(ctx context.Context, o RedisOptions) (*RedisInstance, error) {
	program, err := RedisProgram()
	if err != nil {
		return nil, err
	}
	r := &RedisInstance{dir: o.Dir, program: program}
	if err := r.prepare(ctx, o); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if err := r.Start(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *RedisInstance) prepare(ctx context.Context, o RedisOptions) error {
	var err error
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "lovage-redis-"); err != nil {
			return fmt.Errorf("make directory of redis: %w", err)
		}
		r.tempDir = true
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make directory of redis: %w", err)
	}
	if r.port, err = ReservePort(ctx, o.Port); err != nil {
		return err
	}
	r.guard, err = newGuard(ctx, r.removable())
	return err
}

func (r *RedisInstance) removable() string {
	if r.tempDir {
		return r.dir
	}
	return ""
}

// Start starts the server again after Stop or Kill, on the same port with the
// same data, and returns when it serves. It does nothing when it runs.
func (r *RedisInstance) Start(ctx context.Context) error {
	if r.Alive() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("it does not answer"))
	defer cancel()
	log := filepath.Join(r.dir, "redis.log")
	server, err := Spawn(ctx, Spec{
		Path: r.program, Env: bareEnvironment(), Dir: r.dir, Log: log,
		Args: []string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(r.port.Number()), "--dir", r.dir,
			"--daemonize", "no", "--appendonly", "yes", "--appendfsync", "always",
			"--maxmemory-policy", "noeviction", "--save", "",
		},
	})
	if err != nil {
		return err
	}
	r.server = server
	if err := r.guard.watch(server); err != nil {
		return err
	}
	err = poll(ctx, func() bool { return !server.Alive() || RedisAnswers(ctx, r.port.Number()) })
	return started("redis", server, log, err)
}

// Stop ends the server in order, or kills it when ctx ends first. The data stays.
func (r *RedisInstance) Stop(ctx context.Context) error {
	if r.server == nil {
		return nil
	}
	return r.server.Stop(ctx)
}

// Kill ends the server with SIGKILL. The data stays.
func (r *RedisInstance) Kill() error {
	if r.server == nil {
		return nil
	}
	return r.server.Kill()
}

// Freeze stops the server with SIGSTOP: connections to it succeed and nothing
// ever answers.
func (r *RedisInstance) Freeze() error { return r.server.Freeze() }

// Thaw lets a frozen server go on.
func (r *RedisInstance) Thaw() error { return r.server.Thaw() }

// Alive reports whether the server's process runs; a frozen one does.
func (r *RedisInstance) Alive() bool { return r.server != nil && r.server.Alive() }

// PID returns the pid of the server, or zero before the first start.
func (r *RedisInstance) PID() int {
	if r.server == nil {
		return 0
	}
	return r.server.PID()
}

// Process returns the server's process.
func (r *RedisInstance) Process() *Process { return r.server }

// URL returns the address, database 0.
func (r *RedisInstance) URL() string { return "redis://" + r.port.Address() + "/0" }

// Port returns the number of the port.
func (r *RedisInstance) Port() int { return r.port.Number() }

// Address returns host:port.
func (r *RedisInstance) Address() string { return r.port.Address() }

// Dir returns the directory with data and log.
func (r *RedisInstance) Dir() string { return r.dir }

// Detach lets the server outlive this process, which until then takes it along
// however it ends. From now on the ports are kept by being used alone.
func (r *RedisInstance) Detach() error {
	g := r.guard
	r.guard = nil
	r.port.Release()
	return g.dismiss()
}

// Close kills the server if it still runs, removes a temporary directory and
// gives the port back. For an orderly end call Stop before it.
func (r *RedisInstance) Close() error {
	err := errors.Join(r.Kill(), closeInstance(r.guard, r.removable()))
	r.port.Release()
	return err
}
