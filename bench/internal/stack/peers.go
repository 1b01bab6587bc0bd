package stack

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/bench/internal/load"
)

// Work is what a worker has to do.
type Work struct {
	Tasks int
	Kind  string
	// Bytes is how much a task of the kind cpu hashes.
	Bytes int
	Slots int
	// Rate has it send the tasks itself and measure until each begins.
	Rate float64
	// Part says that more tasks than these wait.
	Part bool
	// Beside is how many workers do the same already.
	Beside int
	// Env is for a worker of ours.
	Env []string
}

func (w Work) flags() []string {
	return []string{
		"--messages=" + strconv.Itoa(w.Tasks), "--kind=" + w.Kind, "--bytes=" + strconv.Itoa(w.Bytes),
		"--slots=" + strconv.Itoa(w.Slots), fmt.Sprintf("--rate=%v", w.Rate),
	}
}

// Peer is another task system whose program is written in Go.
type Peer struct {
	name  string
	url   func() string
	stack *Stack
	// clear forgets all tasks, waiting counts those that nobody has taken.
	clear   func(ctx context.Context) error
	waiting func(ctx context.Context) (int, error)
	filler  *Service
	// stored counts the results that there are.
	stored   func(ctx context.Context) (int, error)
	postgres *Postgres
}

// databases of the one Redis: ours has the first.
const (
	asynqDatabase = iota + 1
	celeryDatabase
)

// database is where programs find a database of the Redis, by the way there is now.
func (s *Stack) database(n int) string {
	return strings.TrimSuffix(s.redisURL(), "0") + strconv.Itoa(n)
}

// Asynq is asynq on the Redis of this stack.
func (s *Stack) Asynq(_ context.Context) (*Peer, error) {
	o, err := redis.ParseURL(s.database(asynqDatabase))
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(o)
	return &Peer{
		name: "asynq", url: func() string { return s.database(asynqDatabase) }, stack: s,
		clear: func(ctx context.Context) error {
			// It registers a queue only once and would miss it.
			_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.FlushDB(ctx)
				p.SAdd(ctx, "asynq:queues", "default")
				return nil
			})
			return err
		},
		waiting: func(ctx context.Context) (int, error) {
			n, err := client.LLen(ctx, "asynq:{default}:pending").Result()
			return int(n), err
		},
		stored: func(ctx context.Context) (int, error) {
			n, err := client.ZCard(ctx, "asynq:{default}:completed").Result()
			return int(n), err
		},
	}, nil
}

// River is River on a PostgreSQL, which is started.
func (s *Stack) River(ctx context.Context) (*Peer, error) {
	p, err := s.Postgres(ctx)
	if err != nil {
		return nil, err
	}
	return &Peer{
		name: "river", postgres: p, url: func() string { return s.by(p.URL(), p.Address()) }, stack: s,
		clear: func(ctx context.Context) error {
			return p.Exec(ctx, "TRUNCATE river_job")
		},
		waiting: func(ctx context.Context) (int, error) {
			return p.Count(ctx, "SELECT count(*) FROM river_job WHERE state = 'available'")
		},
		stored: func(ctx context.Context) (int, error) {
			return p.Count(ctx, "SELECT count(*) FROM river_job WHERE state = 'completed'")
		},
	}, nil
}

// Serve starts a program that takes tasks.
func (p *Peer) Serve(ctx context.Context) (*Service, error) {
	return p.stack.start(ctx, p.name, func(address string) []string {
		return []string{"--listen=" + address, "--url=" + p.url()}
	}, none)
}

// Clear forgets all tasks and waits until nobody has anything left to do.
func (p *Peer) Clear(ctx context.Context) error {
	if err := p.clear(ctx); err != nil {
		return fmt.Errorf("clear %s: %w", p.name, err)
	}
	return p.stack.Quiet(ctx)
}

// Postgres is the one that it uses, if any.
func (p *Peer) Postgres() *Postgres { return p.postgres }

// Stored is how many results there are.
func (p *Peer) Stored(ctx context.Context) (int, error) { return p.stored(ctx) }

// Waiting is how many tasks nobody has taken.
func (p *Peer) Waiting(ctx context.Context) (int, error) { return p.waiting(ctx) }

// Fill submits many tasks.
func (p *Peer) Fill(ctx context.Context, kind string, n int) (err error) {
	if p.filler == nil || !p.filler.Alive() {
		// It stays near, whatever is between others and their servers.
		far := p.stack.far
		p.stack.far = nil
		p.filler, err = p.Serve(ctx)
		p.stack.far = far
		if err != nil {
			return err
		}
	}
	return load.Post(ctx, fmt.Sprintf("http://%s/publish?messages=%d&kind=%s", p.filler.Address, n, kind), "{}", http.StatusOK)
}

// Work starts a worker.
func (p *Peer) Work(ctx context.Context, w Work) (*Service, error) {
	return p.stack.start(ctx, p.name, func(address string) []string {
		return append(w.flags(), "--listen="+address, "--url="+p.url())
	}, none)
}
