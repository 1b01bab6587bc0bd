package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lovage-mq/lovage/bench/internal/procfs"
	"github.com/lovage-mq/lovage/internal/devstack" //nolint:depguard // a benchmark starts servers as tests do
)

// Postgres is a private PostgreSQL that answers a commit only when it is on the
// disk.
type Postgres struct {
	*devstack.Process
	port *devstack.Port
	dir  string
	// server is the command that starts it.
	server []string
}

// postgresUser is who runs it where root would have to: it refuses root.
const postgresUser = "postgres"

// postgresPrograms returns the directory of the newest PostgreSQL, as Debian has
// it, or one on the PATH.
func postgresPrograms() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is a good one
	if len(found) > 0 {
		return filepath.Dir(slices.Max(found)), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", fmt.Errorf("find PostgreSQL: %w", err)
	}
	return filepath.Dir(path), nil
}

// Postgres starts the PostgreSQL of this stack, unless it runs.
func (s *Stack) Postgres(ctx context.Context) (*Postgres, error) {
	if s.postgres != nil {
		return s.postgres, nil
	}
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	p := &Postgres{}
	if p.dir, err = os.MkdirTemp("", "lovage-postgres-"); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if p.port, err = devstack.ReservePort(ctx, 0); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	if err := p.start(ctx, bin); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	s.postgres = p
	return p, nil
}

func (p *Postgres) start(ctx context.Context, bin string) error {
	as, err := p.handOver()
	if err != nil {
		return err
	}
	data := filepath.Join(p.dir, "data")
	initdb := slices.Concat(as, []string{
		filepath.Join(bin, "initdb"), "-D", data, "-U", postgresUser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
	})
	cmd := exec.CommandContext(ctx, initdb[0], initdb[1:]...)
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make PostgreSQL cluster: %w\n%s", err, out)
	}
	p.server = slices.Concat(as, []string{
		filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(p.port.Number()), "-k", "",
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=on", "-c", "synchronous_commit=on",
		"-c", "max_connections=200", "-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB",
	})
	return p.Start(ctx)
}

// Start starts the server, again after Kill, with the same data on the same port,
// and returns when it serves. It does nothing when it runs.
func (p *Postgres) Start(ctx context.Context) (err error) {
	if p.Process != nil && p.Alive() {
		return nil
	}
	log := filepath.Join(p.dir, "log")
	if p.Process, err = devstack.Spawn(ctx, devstack.Spec{Path: p.server[0], Args: p.server[1:], Env: os.Environ(), Dir: p.dir, Log: log}); err != nil {
		return err
	}
	err = poll(ctx, "PostgreSQL serves", func() bool { return !p.Alive() || p.Exec(ctx, "SELECT 1") == nil })
	if err == nil && !p.Alive() {
		err = errors.New("PostgreSQL has ended")
	}
	if err != nil {
		text, _ := os.ReadFile(log)
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}

// handOver gives the directory to the user of PostgreSQL when this is root, and
// returns what to put before a command to run it as that user.
func (p *Postgres) handOver() ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(postgresUser)
	if err != nil {
		return nil, fmt.Errorf("find the user of PostgreSQL: %w", err)
	}
	uid, _ := strconv.Atoi(u.Uid) // they are numbers here
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(p.dir, uid, gid); err != nil {
		return nil, fmt.Errorf("hand over directory: %w", err)
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		return nil, fmt.Errorf("become the user of PostgreSQL: %w", err)
	}
	return []string{setpriv, "--reuid=" + u.Uid, "--regid=" + u.Gid, "--clear-groups"}, nil
}

// PostgresPID is that of the PostgreSQL, or 0 when there is none.
func (s *Stack) PostgresPID() int {
	if s.postgres == nil {
		return 0
	}
	return s.postgres.PID()
}

// signalAll sends a signal to all processes of the server: one that is left
// alone goes on answering.
func (p *Postgres) signalAll(sig syscall.Signal) error {
	pids, err := procfs.Tree(p.PID())
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal %d: %w", pid, err)
		}
	}
	return nil
}

// Freeze stops the server: connections to it succeed, and nothing ever answers.
func (p *Postgres) Freeze() error { return p.signalAll(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *Postgres) Thaw() error { return p.signalAll(syscall.SIGCONT) }

// Kill ends the server at once. The data stays.
func (p *Postgres) Kill() error { return errors.Join(p.signalAll(syscall.SIGKILL), p.Process.Kill()) }

// Address is host:port.
func (p *Postgres) Address() string { return p.port.Address() }

// URL is where it is.
func (p *Postgres) URL() string {
	return "postgres://" + postgresUser + "@" + p.port.Address() + "/postgres?sslmode=disable"
}

// Exec runs a statement on a connection of its own.
func (p *Postgres) Exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Count returns the number that a query asks for.
func (p *Postgres) Count(ctx context.Context, sql string) (n int, err error) {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, sql).Scan(&n)
	return n, errors.Join(err, conn.Close(ctx))
}

// Close ends the server without keeping what it has, and removes its files.
func (p *Postgres) Close() error {
	const within, every = 10 * time.Second, 20 * time.Millisecond
	var err error
	if p.Process != nil {
		// On this signal it takes its processes along.
		_ = p.Signal(syscall.SIGQUIT)
		for end := time.Now().Add(within); p.Alive() && time.Now().Before(end); {
			<-time.After(every)
		}
		err = p.Process.Kill()
	}
	p.port.Release()
	return errors.Join(err, os.RemoveAll(p.dir))
}
