package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// The contenders. Whatever one of them cannot do, its functions for that are nil.
const (
	ours       = "lovage"
	floorName  = "floor"
	twoHeaders = "floor-two-headers"
	baseName   = "base"
	celery     = "celery"
	asynq      = "asynq"
	river      = "river"
)

func peerNames() []string { return []string{celery, asynq, river} }

// contender is one of those that take turns.
type contender struct {
	name string
	// note says what keeps a task that was accepted.
	note string
	// service takes tasks over HTTP, at path; at runPath it answers with the result.
	service       *stack.Service
	path, runPath string
	// serve starts one more of the service.
	serve func(ctx context.Context) (*stack.Service, error)
	// runHeaders ask for the result, where that takes a header.
	runHeaders []string

	// publish says that the service takes many tasks at once.
	publish bool

	// clear forgets all tasks; waiting counts those that nobody has taken.
	clear   func(ctx context.Context) error
	waiting func(ctx context.Context) (int, error)
	// fill has n tasks of a kind wait.
	fill func(ctx context.Context, kind string, n int) error
	// pools are ways to run a worker, of which the best takes part.
	pools []pool
	// drained waits until a worker is through, and returns how long it has taken.
	drained func(ctx context.Context, v *stack.Service, w stack.Work) (time.Duration, error)
	// pickedUp waits until tasks that were sent at a rate have begun, and returns
	// the quantiles of their times. It ends the worker.
	pickedUp func(ctx context.Context, v *stack.Service, w stack.Work) (map[string]float64, error)
	// settled is how many tasks these workers have run, results stored.
	settled func(ctx context.Context, workers []*stack.Service) (int, error)
	// server keeps the tasks.
	server stack.Server
	// kept is what tasks and results take, in bytes.
	kept func(ctx context.Context) (float64, error)
}

// pool is one way to run a worker.
type pool struct {
	name  string
	slots int
	work  func(ctx context.Context, w stack.Work) (*stack.Service, error)
}

// start starts a worker with the slots of the pool.
func (p pool) start(ctx context.Context, w stack.Work) (*stack.Service, error) {
	w.Slots = p.slots
	return p.work(ctx, w)
}

const (
	rabbitNote = "quorum queue, confirm"
	redisNote  = "Redis, fsync before the answer"
	pgNote     = "PostgreSQL, fsync before the answer"
)

// our is Lovage.
func (b *bench) our() contender {
	return b.built(ours, b.gateway, b.stack.This())
}

// built is a build of Lovage, with its gateway.
func (b *bench) built(name string, gateway *stack.Service, of stack.Build) contender {
	return contender{
		name: name, note: rabbitNote + ", mandatory", service: gateway, path: stack.TaskPath, server: b.stack.RabbitMQ,
		serve:   func(ctx context.Context) (*stack.Service, error) { return of.Gateway(ctx) },
		runPath: "/v1/tasks/" + stack.BenchTask + "?queue=" + stack.Queue, runHeaders: []string{"Prefer: wait=20"},
		clear: b.clearQueue, waiting: b.depth,
		fill: func(ctx context.Context, kind string, n int) error { return stack.FillOurs(ctx, gateway, kind, n) },
		pools: []pool{
			{"256 slots", manySlots, of.Drainer},
			{"32 slots", pickUpSlots, of.Drainer},
		},
		drained: drained, pickedUp: pickedUp, settled: stack.Settled, kept: b.stack.RedisMemory,
	}
}

// loose is the loop by hand, which works off the same queue as ours.
func (b *bench) loose() contender {
	c := b.our()
	c.name, c.note, c.runPath, c.pools = floorName, rabbitNote, "", []pool{{"a loop", 0, b.stack.Drainer}}
	return c
}

// floor is what takes single submissions.
func (b *bench) floor(name string, o stack.FloorOptions, v *stack.Service) contender {
	return contender{
		name: name, note: rabbitNote + ", mandatory", service: v, path: "/submit", server: b.stack.RabbitMQ,
		serve: func(ctx context.Context) (*stack.Service, error) { return b.startFloor(ctx, o) },
		clear: b.clearQueue, waiting: b.depth,
	}
}

func (b *bench) clearQueue(ctx context.Context) error { return b.stack.Clear(ctx, stack.Queue) }
func (b *bench) depth(context.Context) (int, error)   { return b.stack.Depth(stack.Queue) }

func drained(ctx context.Context, v *stack.Service, _ stack.Work) (time.Duration, error) {
	return stack.Drained(ctx, v)
}

func pickedUp(ctx context.Context, v *stack.Service, _ stack.Work) (map[string]float64, error) {
	return stack.PickedUp(ctx, v)
}

// startPeers starts those peers that take part. One that is not installed is left
// out.
func (b *bench) startPeers(ctx context.Context) error {
	if b.Base != "" {
		if err := b.startBase(ctx); err != nil {
			return err
		}
	}
	for _, name := range b.Peers {
		if !slices.Contains(peerNames(), name) {
			return fmt.Errorf("there is no peer %s, but %s", name, strings.Join(peerNames(), ", "))
		}
		progress("starting %s", name)
		c, err := b.peer(ctx, name)
		if err != nil {
			progress("%s is left out: %v", name, err)
			continue
		}
		b.try(ctx, "start", name, func(ctx context.Context) error {
			c.service, err = c.serve(ctx)
			if err == nil {
				b.started = append(b.started, c)
			}
			return err
		})
	}
	return context.Cause(ctx)
}

// startBase has another revision of Lovage take part.
func (b *bench) startBase(ctx context.Context) error {
	progress("building %s", b.Base)
	if err := b.stack.BuildBase(ctx, b.Base); err != nil {
		return err
	}
	gateway, err := b.stack.Base().Gateway(ctx)
	if err != nil {
		return err
	}
	b.started = append(b.started, b.built(baseName, gateway, b.stack.Base()))
	return nil
}

// peer is another task system, whose service does not run yet.
func (b *bench) peer(ctx context.Context, name string) (contender, error) {
	switch name {
	case celery:
		return b.celery(ctx)
	case asynq:
		p, err := b.stack.Asynq(ctx)
		if err != nil {
			return contender{}, err
		}
		return compiled(p, name, redisNote, b.stack.Redis, b.stack.RedisMemory), nil
	default:
		p, err := b.stack.River(ctx)
		if err != nil {
			return contender{}, err
		}
		return compiled(p, name, pgNote, p.Postgres(), b.stack.PostgresSize), nil
	}
}

// compiled is a peer whose program is written in Go.
func compiled(p *stack.Peer, name, note string, server stack.Server, kept func(context.Context) (float64, error)) contender {
	return contender{
		name: name, note: note, path: "/submit", runPath: "/run", publish: true, serve: p.Serve, server: server,
		clear: p.Clear, waiting: p.Waiting, fill: p.Fill, drained: drained, pickedUp: pickedUp, kept: kept,
		settled: func(ctx context.Context, _ []*stack.Service) (int, error) { return p.Stored(ctx) },
		pools:   []pool{{"256 slots", manySlots, p.Work}, {"32 slots", pickUpSlots, p.Work}},
	}
}

func (b *bench) celery(ctx context.Context) (contender, error) {
	c, err := b.stack.Celery(ctx)
	if err != nil {
		return contender{}, err
	}
	with := func(kind string) func(context.Context, stack.Work) (*stack.Service, error) {
		return func(ctx context.Context, w stack.Work) (*stack.Service, error) { return c.Work(ctx, kind, w) }
	}
	return contender{
		name: celery, note: rabbitNote + "; acks late", path: "/submit", runPath: "/run", serve: c.Serve, server: b.stack.RabbitMQ,
		settled: func(ctx context.Context, _ []*stack.Service) (int, error) { return c.Stored(ctx) },
		clear:   c.Clear, waiting: c.Waiting, fill: c.Fill, drained: c.Drained, kept: b.stack.RedisMemory,
		pickedUp: func(ctx context.Context, v *stack.Service, w stack.Work) (map[string]float64, error) {
			times, err := c.PickUp(ctx, w)
			if err != nil {
				return nil, v.Explain(err)
			}
			return times, v.End()
		},
		pools: []pool{
			{"prefork of 2", fewProcesses, with("prefork")},
			{"prefork of 8", manyProcesses, with("prefork")},
			{"threads of 32", pickUpSlots, with("threads")},
		},
	}, nil
}

const fewProcesses, manyProcesses = 2, 8

// pickUpPools are the pools that are tried when tasks come at a rate: the one with
// the slots that are compared, the kinds of Celery, or the only one.
func (c contender) pickUpPools() []pool {
	if c.name == celery {
		return c.pools[1:]
	}
	i := slices.IndexFunc(c.pools, func(p pool) bool { return p.slots == pickUpSlots })
	return c.pools[max(0, i):][:1]
}
