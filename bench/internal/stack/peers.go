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
	name, url string
	stack     *Stack
	// clear forgets all tasks, waiting counts those that nobody has taken.
	clear   func(ctx context.Context) error
	waiting func(ctx context.Context) (int, error)
	filler  *Service
}

// databases of the one Redis: ours has the first.
const (
	asynqDatabase = iota + 1
	celeryDatabase
)

func (s *Stack) database(n int) string {
	return strings.TrimSuffix(s.Redis.URL(), "0") + strconv.Itoa(n)
}

// Asynq is asynq on the Redis of this stack.
func (s *Stack) Asynq(_ context.Context) (*Peer, error) {
	url := s.database(asynqDatabase)
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(o)
	return &Peer{
		name: "asynq", url: url, stack: s,
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
	}, nil
}

// River is River on a PostgreSQL, which is started.
func (s *Stack) River(ctx context.Context) (*Peer, error) {
	p, err := s.Postgres(ctx)
	if err != nil {
		return nil, err
	}
	return &Peer{
		name: "river", url: p.URL(), stack: s,
		clear: func(ctx context.Context) error {
			return p.Exec(ctx, "TRUNCATE river_job")
		},
		waiting: func(ctx context.Context) (int, error) {
			return p.Count(ctx, "SELECT count(*) FROM river_job WHERE state = 'available'")
		},
	}, nil
}

// Serve starts a program that takes tasks.
func (p *Peer) Serve(ctx context.Context) (*Service, error) {
	return p.stack.start(ctx, p.name, func(address string) []string {
		return []string{"--listen=" + address, "--url=" + p.url}
	}, none)
}

// Clear forgets all tasks and waits until nobody has anything left to do.
func (p *Peer) Clear(ctx context.Context) error {
	if err := p.clear(ctx); err != nil {
		return fmt.Errorf("clear %s: %w", p.name, err)
	}
	return p.stack.Quiet(ctx)
}

// Waiting is how many tasks nobody has taken.
func (p *Peer) Waiting(ctx context.Context) (int, error) { return p.waiting(ctx) }

// Fill submits many tasks.
func (p *Peer) Fill(ctx context.Context, kind string, n int) (err error) {
	if p.filler == nil {
		if p.filler, err = p.Serve(ctx); err != nil {
			return err
		}
	}
	return load.Post(ctx, fmt.Sprintf("http://%s/publish?messages=%d&kind=%s", p.filler.Address, n, kind), "{}", http.StatusOK)
}

// Work starts a worker.
func (p *Peer) Work(ctx context.Context, w Work) (*Service, error) {
	return p.stack.start(ctx, p.name, func(address string) []string {
		return append(w.flags(), "--listen="+address, "--url="+p.url)
	}, none)
}
