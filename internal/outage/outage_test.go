//go:build outage

package outage_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// calm is how long things are looked at before each fault.
	calm = 2 * time.Second
	// soon is how much later than anybody else the gateway may be back.
	soon = 2 * time.Second
	// after is how long things are looked at once they had to be well again.
	after = time.Second
)

// TestOutages breaks one thing after the other before one gateway, which is
// never restarted, and under the same load all the time.
//
//nolint:tparallel // its subtests share one broker, and each breaks it
func TestOutages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, f := range faults() {
		t.Run(f.name, b.outage(f))
	}
	t.Run("swallowed confirms", b.duplicates)
	t.Run("what was told before still holds", b.recheck)
	t.Run("the gateway is as it was", b.resources)
	b.report.write(t)
}

// bench is what all outages share.
type bench struct {
	*stack
	gateway  *gateway
	known    string
	baseline usage
	// control is the p99 of each path while everything was well.
	control map[string]time.Duration
	ledgers []*ledger
	report  report
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s := newStack(t)
	b := &bench{stack: s, gateway: s.startGateway(t), known: messages.NewID()}
	b.gateway.awaitWell()
	l := newLoad(b.gateway, b.stack, b.known, false)
	first := l.do(t.Context(), l.submitting, "POST", "/v1/tasks/"+taskName+"?task_id="+b.known, "{}")
	require.Equal(t, accepted, first.outcome)
	// The baseline is a gateway that has worked, with its pools filled.
	ctx, cancel := context.WithTimeout(t.Context(), calm)
	defer cancel()
	l.start(ctx)
	l.wait()
	b.settle(t, l)
	b.control = controls(l)
	b.baseline = b.usage(t)
	return b
}

// round is one time that a thing broke and was healed.
type round struct {
	broken  time.Time // nothing is wrong before
	done    time.Time // everything is wrong from here on
	healing time.Time
	// raw is when another client's message was confirmed for the first time.
	raw time.Time
	end time.Time
}

// outage is one fault from beginning to end.
func (b *bench) outage(f fault) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		v, l := b.suffer(t, f)
		v.look()
		v.ledger(b.settle(t, l))
		if !f.startUp {
			v.complain(b.leaks(t)...)
			t.Logf("the gateway afterwards: %+v", b.usage(t))
		}
		b.report.add(v)
		t.Log("\n" + b.report.last())
		require.Empty(t, v.complaints, strings.Join(v.complaints, "\n"))
	}
}

// suffer puts a gateway under load while things break and are healed.
func (b *bench) suffer(t *testing.T, f fault) (*verdict, *load) {
	t.Helper()
	s := *b.stack
	s.t = t
	s.amqpProxy, s.redisProxy = b.amqpProxy.of(t), b.redisProxy.of(t)
	g := b.gateway
	if f.startUp {
		f.broken(t.Context(), &s)
		g = s.startGateway(t)
		g.awaitBroker(f.unnoticed)
	}
	l := newLoad(g, b.stack, b.known, f.startUp)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l.start(ctx)
	if !f.startUp {
		pauseUntil(ctx, time.Now().Add(calm))
	}
	v := &verdict{fault: f, control: b.control}
	for range max(1, f.rounds) {
		v.rounds = append(v.rounds, s.once(ctx, f))
	}
	stop()
	l.wait()
	if !f.startUp {
		v.control = controlsUntil(l, v.rounds[0].broken)
	}
	v.submissions, v.others = l.snapshot()
	return v, l
}

// once breaks and heals, and sees when others can publish again.
func (s *stack) once(ctx context.Context, f fault) (r round) {
	s.t.Helper()
	r.broken = time.Now()
	if !f.startUp {
		f.broken(ctx, s)
	}
	r.done = time.Now()
	pauseUntil(ctx, time.Now().Add(f.hold))
	r.healing = time.Now()
	trying, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("nobody could publish within %v", patience))
	defer cancel()
	var err error
	var other sync.WaitGroup
	other.Go(func() { r.raw, err = rawConfirm(trying, s.amqpProxy.through(s.broker.URL())) })
	f.healed(ctx, s)
	other.Wait()
	require.NoError(s.t, err)
	pauseUntil(ctx, r.raw.Add(soon+after))
	// What is sent later may still be on its way when the next round begins.
	r.end = time.Now().Add(-after / 10)
	return r
}

// settle waits until every accepted task of a load has run, and writes down
// what became of all of them.
func (b *bench) settle(t *testing.T, l *load) *ledger {
	t.Helper()
	submissions, _ := l.snapshot()
	led := newLedger(submissions)
	require.Eventually(t, func() bool {
		return led.pending(b.executions) == 0 && b.ready(queue) == 0
	}, patience, 50*time.Millisecond, "every accepted task runs")
	led.settle(t, b.executions, b.store)
	b.ledgers = append(b.ledgers, led)
	return led
}

// recheck looks at all tasks of all outages once more: what was not published
// must not turn up late, and nothing may have run again.
func (b *bench) recheck(t *testing.T) {
	var complaints []string
	for _, led := range b.ledgers {
		led.settle(t, b.executions, b.store)
		complaints = append(complaints, led.complaints...)
	}
	require.Empty(t, complaints, strings.Join(complaints, "\n"))
	require.Zero(t, b.ready(queue+".dead"), "nothing was refused by the worker")
}

// duplicates swallows confirms, so that messages that have arrived are sent
// again, until there are enough of them, and sees each task run once.
func (b *bench) duplicates(t *testing.T) {
	const wanted, tries = 100, 8
	s := *b.stack
	s.t = t
	b.stopWorker() // what it would take could not be counted
	var loads []*load
	copies, arrived := 0, 0
	for len(loads) < tries && copies < wanted {
		l := b.swallowConfirms(t)
		loads = append(loads, l)
		submissions, _ := l.snapshot()
		told := newLedger(submissions)
		// At least: some of the unconfirmed have not arrived even once.
		arrived += len(told.accepted) + len(told.unconfirmed)
		copies = s.ready(queue) - arrived
		t.Logf("%d submissions, %v: at least %d duplicates by now", len(submissions), tally(submissions), copies)
	}
	s.startWorker()
	b.worker = s.worker
	for _, l := range loads {
		led := b.settle(t, l)
		require.Empty(t, led.complaints, strings.Join(led.complaints, "\n"))
	}
	require.GreaterOrEqual(t, copies, wanted, "real duplicates")
	b.report.duplicates = copies
}

// swallowConfirms puts the gateway under load while nothing comes back from
// the broker, and then closes the connections.
func (b *bench) swallowConfirms(t *testing.T) *load {
	t.Helper()
	l := newLoad(b.gateway, b.stack, b.known, false)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l.start(ctx)
	pauseUntil(ctx, time.Now().Add(calm/4))
	b.amqpProxy.poison(swallow(downstream))
	pauseUntil(ctx, time.Now().Add(600*time.Millisecond))
	b.amqpProxy.heal(ctx)
	pauseUntil(ctx, time.Now().Add(calm/2))
	stop()
	l.wait()
	return l
}
