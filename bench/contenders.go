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
	return b.built(ours, b.gateway, b.stack.Drainer)
}

// built is a build of Lovage: its gateway, and how its workers are started.
func (b *bench) built(name string, gateway *stack.Service, work func(context.Context, stack.Work) (*stack.Service, error)) contender {
	return contender{
		name: name, note: rabbitNote + ", mandatory", service: gateway, path: stack.TaskPath,
		runPath: "/v1/tasks/" + stack.BenchTask + "?queue=" + stack.Queue, runHeaders: []string{"Prefer: wait=20"},
		clear: b.clearQueue, waiting: b.depth,
		fill: func(ctx context.Context, kind string, n int) error { return stack.FillOurs(ctx, gateway, kind, n) },
		pools: []pool{
			{"256 slots", manySlots, work},
			{"32 slots", pickUpSlots, work},
		},
		drained: drained, pickedUp: pickedUp, kept: b.stack.RedisMemory,
	}
}

// loose is the loop by hand, which works off the same queue as ours.
func (b *bench) loose() contender {
	c := b.our()
	c.name, c.note, c.runPath, c.pools = floorName, rabbitNote, "", []pool{{"a loop", 0, b.stack.Drainer}}
	return c
}

// floor is what takes single submissions.
func (b *bench) floor(name string, v *stack.Service) contender {
	return contender{name: name, note: rabbitNote + ", mandatory", service: v, path: "/submit", clear: b.clearQueue, waiting: b.depth}
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
		progress("starting %s", name)
		c, err := b.peer(ctx, name)
		if err != nil {
			progress("%s is left out: %v", name, err)
			continue
		}
		if c.service, err = c.serve(ctx); err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		b.peers = append(b.peers, c.contender)
	}
	return nil
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
	b.peers = append(b.peers, b.built(baseName, gateway, b.stack.Base().Drainer))
	return nil
}

// unstarted is a contender whose service does not run yet.
type unstarted struct {
	contender
	serve func(ctx context.Context) (*stack.Service, error)
}

func (b *bench) peer(ctx context.Context, name string) (unstarted, error) {
	switch name {
	case celery:
		return b.celery(ctx)
	case asynq:
		p, err := b.stack.Asynq(ctx)
		if err != nil {
			return unstarted{}, err
		}
		return compiled(p, name, redisNote, b.stack.RedisMemory), nil
	case river:
		p, err := b.stack.River(ctx)
		if err != nil {
			return unstarted{}, err
		}
		return compiled(p, name, pgNote, b.stack.PostgresSize), nil
	default:
		return unstarted{}, fmt.Errorf("there is no peer %s, but %s", name, strings.Join(peerNames(), ", "))
	}
}

// compiled is a peer whose program is written in Go.
func compiled(p *stack.Peer, name, note string, kept func(context.Context) (float64, error)) unstarted {
	return unstarted{serve: p.Serve, contender: contender{
		name: name, note: note, path: "/submit", runPath: "/run", publish: true,
		clear: p.Clear, waiting: p.Waiting, fill: p.Fill, drained: drained, pickedUp: pickedUp, kept: kept,
		pools: []pool{{"256 slots", manySlots, p.Work}, {"32 slots", pickUpSlots, p.Work}},
	}}
}

func (b *bench) celery(ctx context.Context) (unstarted, error) {
	c, err := b.stack.Celery(ctx)
	if err != nil {
		return unstarted{}, err
	}
	with := func(kind string) func(context.Context, stack.Work) (*stack.Service, error) {
		return func(ctx context.Context, w stack.Work) (*stack.Service, error) { return c.Work(ctx, kind, w) }
	}
	return unstarted{serve: c.Serve, contender: contender{
		name: celery, note: rabbitNote + "; acks late", path: "/submit", runPath: "/run",
		clear: c.Clear, waiting: c.Waiting, fill: c.Fill, drained: c.Drained, kept: b.stack.RedisMemory,
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
	}}, nil
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
