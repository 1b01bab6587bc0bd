package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/procfs"
	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	// manyInFlight is how many submissions wait at the same time, if the gateway
	// can be told to let them.
	manyInFlight    = 10_000
	defaultInFlight = 4000
	inFlightSetting = "LOVAGE_MAX_IN_FLIGHT"
	inFlightRounds  = 1
	// arriveEvery lets 222 come in a second. Many more, while hardly any are
	// confirmed, would be what a gateway is right to refuse: an overload.
	arriveEvery = 4500 * time.Microsecond
	// most is the share of them that have to wait in the end for the memory of
	// each to mean something.
	most = 0.9
	// holdUp is how long all of it may take: the publish timeout of the gateway.
	holdUp = 2 * time.Minute
	// collected is how often a program has to collect its garbage until nothing is
	// left of what was before. The second time has found all of it; some more are
	// needed until Go expects no longer that it will need as much memory again.
	collected = 10
	// relief is how long a program has to give its memory back.
	relief = 5 * time.Second

	kB, MB = 1e3, 1e6
)

// memory is what a program has at a moment, in bytes.
type memory struct {
	// rss is all that is in RAM, inUse what Go has in use for objects, garbage
	// among them, and stacks. What is in RAM and not in use is kept for later.
	rss, inUse float64
	// collections counts the runs of the garbage collector.
	collections float64
}

// inFlight measures the memory of submissions that wait for their confirm.
func (b *bench) inFlight(ctx context.Context) error {
	n, env := defaultInFlight, []string{fmt.Sprintf("LOVAGE_PUBLISH_TIMEOUT=%v", holdUp)}
	settable, err := b.stack.GatewayKnows(ctx, inFlightSetting)
	if err != nil {
		return err
	}
	if settable {
		n = manyInFlight
		env = append(env, fmt.Sprintf("%s=%d", inFlightSetting, n))
	}
	gateway := func(ctx context.Context, amqpURL string) (*stack.Service, error) {
		return b.stack.Gateway(ctx, append(env, "LOVAGE_AMQP_URL="+amqpURL)...)
	}
	floor := func(ctx context.Context, amqpURL string) (*stack.Service, error) {
		return b.stack.Floor(ctx, b.gateway, stack.FloorOptions{AMQPURL: amqpURL, Channels: 4})
	}
	contenders := []contender{{name: ours, path: stack.TaskPath}, {name: floorName, path: "/submit"}}
	start := []func(context.Context, string) (*stack.Service, error){gateway, floor}
	err = b.turns(ctx, "inflight", min(b.Rounds, inFlightRounds), contenderNames(contenders), func(ctx context.Context, i int) error {
		return b.inFlightTurn(ctx, contenders[i], start[i], n)
	})
	if err != nil {
		return err
	}
	b.book.Compare(report.Comparison{Measure: "inflight-rss-each", Ours: ours, Contender: floorName})
	return nil
}

// inFlightTurn starts a contender behind a broker that can be slow.
func (b *bench) inFlightTurn(ctx context.Context, c contender, start func(context.Context, string) (*stack.Service, error), n int) (err error) {
	if err := b.stack.Clear(ctx, stack.Queue); err != nil {
		return err
	}
	slow, err := b.stack.Slow(ctx)
	if err != nil {
		return err
	}
	proxying, stop := context.WithCancel(ctx)
	proxied := make(chan error, 1)
	go func() { proxied <- slow.Run(proxying) }()
	defer func() {
		stop()
		err = errors.Join(err, <-proxied)
	}()
	if c.service, err = start(ctx, slow.AMQPURL(b.stack)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.service.End()) }()
	if err := b.fill(ctx, c, slow, n); err != nil {
		return c.service.Explain(fmt.Errorf("%s: %w", c.name, err))
	}
	return nil
}

// fill looks at the memory of a program before, while and after n submissions
// wait for the broker, and after as many have waited once more.
func (b *bench) fill(ctx context.Context, c contender, slow *stack.Slow, n int) error {
	before, err := exercised(ctx, c)
	if err != nil {
		return err
	}
	peak, waiting, err := b.crowd(ctx, c, slow, n)
	if err != nil {
		return err
	}
	after, err := exercised(ctx, c)
	if err != nil {
		return err
	}
	if _, _, err := b.crowd(ctx, c, slow, n); err != nil {
		return err
	}
	again, err := exercised(ctx, c)
	if err != nil {
		return err
	}
	b.addInFlight(c.name, waiting, before, peak, after)
	b.book.Add("inflight-again-each", c.name, "kB", (again.rss-after.rss)/waiting/kB)
	return nil
}

// crowd lets n submissions wait, and returns once all have their answers.
func (b *bench) crowd(ctx context.Context, c contender, slow *stack.Slow, n int) (peak memory, waiting float64, err error) {
	crowd := &load.Crowd{
		Address: c.service.Address, Request: load.Request(c.service.Address, c.path, stack.Input), Status: http.StatusAccepted,
		Clients: n, Every: arriveEvery, Patience: holdUp,
	}
	slow.Hold(true)
	crowding, leave := context.WithCancel(ctx)
	defer leave()
	left := make(chan error, 1)
	go func() { left <- crowd.Run(crowding) }()
	peak, waited, err := summit(ctx, c.service, crowd)
	if err != nil {
		leave()
	}
	slow.Hold(false)
	if err := errors.Join(err, <-left); err != nil {
		return peak, 0, err
	}
	if float64(waited) < most*float64(n) {
		return peak, 0, fmt.Errorf("only %d of %d submissions waited, and %d were accepted", waited, n, crowd.Accepted())
	}
	b.book.Add("inflight-accepted", c.name, "submissions", float64(crowd.Accepted()))
	return peak, float64(waited), nil
}

func (b *bench) addInFlight(contender string, waiting float64, before, peak, after memory) {
	b.book.Add("inflight", contender, "submissions", waiting)
	b.book.Add("inflight-rss-each", contender, "kB", (peak.rss-before.rss)/waiting/kB)
	b.book.Add("inflight-in-use-each", contender, "kB", (peak.inUse-before.inUse)/waiting/kB)
	b.book.Add("inflight-rss-before", contender, "MB", before.rss/MB)
	b.book.Add("inflight-rss-peak", contender, "MB", peak.rss/MB)
	b.book.Add("inflight-rss-after", contender, "MB", after.rss/MB)
	b.book.Add("inflight-left-each", contender, "kB", (after.inUse-before.inUse)/waiting/kB)
	b.book.Add("inflight-in-use-before", contender, "MB", before.inUse/MB)
	b.book.Add("inflight-in-use-peak", contender, "MB", peak.inUse/MB)
	b.book.Add("inflight-in-use-after", contender, "MB", after.inUse/MB)
}

// exercised returns the memory of a program that has worked, has collected its
// garbage and has rested.
func exercised(ctx context.Context, c contender) (memory, error) {
	begin, err := remember(ctx, c.service)
	for now := begin; err == nil && now.collections < begin.collections+collected; now, err = remember(ctx, c.service) {
		_, err := load.Closed{
			Address: c.service.Address, Request: load.Request(c.service.Address, c.path, stack.Input), Status: http.StatusAccepted,
			Clients: manyClients, Length: time.Second, Mark: func() {},
		}.Run(ctx)
		if err != nil {
			return memory{}, err
		}
	}
	if err == nil {
		err = load.Pass(ctx, relief)
	}
	if err != nil {
		return memory{}, err
	}
	return remember(ctx, c.service)
}

// summit waits until the whole crowd has sent its requests and the broker lets
// some of them through, and returns the memory and how many wait.
func summit(ctx context.Context, v *stack.Service, crowd *load.Crowd) (m memory, waiting int, err error) {
	last := 0
	for end := time.Now().Add(holdUp / 2); time.Now().Before(end); last = waiting {
		if err := load.Pass(ctx, 200*time.Millisecond); err != nil {
			return m, 0, err
		}
		waiting = crowd.Waiting()
		if crowd.Sent() == crowd.Clients && waiting <= last {
			m, err = remember(ctx, v)
			return m, waiting, err
		}
	}
	return m, 0, fmt.Errorf("%d of %d submissions are under way, and still more come", last, crowd.Clients)
}

func remember(ctx context.Context, v *stack.Service) (memory, error) {
	m, err := v.Metrics(ctx)
	if err != nil {
		return memory{}, err
	}
	rss, err := procfs.RSS(v.PID())
	return memory{
		rss:         float64(rss),
		inUse:       m["go_memstats_heap_inuse_bytes"] + m["go_memstats_stack_inuse_bytes"],
		collections: m["go_gc_duration_seconds_count"],
	}, err
}
