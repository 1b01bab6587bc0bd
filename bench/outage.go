package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	// outageRate is how many submissions come in a second while the server is away,
	// and outagePatience how long each of the clients waits.
	outageRate     = 50
	outagePatience = 10 * time.Second
	// outageClients are more than can wait.
	outageClients = 600
	outageLook    = 20 * time.Millisecond
	// inARow is how many submissions have to be accepted, one after the other, for
	// a contender to serve again.
	inARow = 20
)

// outage measures what becomes of submissions while the server that keeps the
// tasks of a contender stands still or is gone.
func (b *bench) outage(ctx context.Context) error {
	contenders := slices.Concat([]contender{b.our()}, b.floors(ctx, floorName), b.peers)
	for _, fault := range b.Faults {
		measure := "outage-" + fault
		err := b.turns(ctx, measure, 1, contenderNames(contenders), func(ctx context.Context, i int) error {
			return b.outageTurn(ctx, measure, contenders[i], fault == "kill")
		})
		if err != nil {
			return err
		}
		b.comparePeers(measure+"-p50", measure+"-p99", measure+"-back")
	}
	return nil
}

// outageTurn starts a service for that alone: some do not come through.
func (b *bench) outageTurn(ctx context.Context, measure string, c contender, kill bool) (err error) {
	if err := c.clear(ctx); err != nil {
		return err
	}
	service, err := c.serve(ctx)
	if err != nil {
		return err
	}
	c.service = service
	defer func() { err = errors.Join(err, service.End(), b.heal(ctx, c)) }()
	var got timeline
	loading, stop := context.WithCancel(ctx)
	loaded := make(chan error, 1)
	go func() {
		loaded <- load.Open{
			Address: c.service.Address, Request: load.Request(c.service.Address, c.path, stack.Input),
			Rate: outageRate, Length: b.Limit, Clients: outageClients, Fresh: true, Patience: outagePatience, Answered: got.add,
		}.Run(loading)
	}()
	var times absence
	times, err = b.absent(ctx, c.server, kill, &got)
	stop()
	if wrong := <-loaded; !errors.Is(wrong, context.Canceled) {
		err = errors.Join(err, wrong)
	}
	if err != nil {
		return c.service.Explain(err)
	}
	return b.addOutage(measure, c, times, got.between(times.from, times.to))
}

// absence is from when to when a server was away, and since when its contender
// serves again, if it does.
type absence struct{ from, to, served time.Time }

// absent takes the server away for a while, once the service serves, and waits
// until it serves again and all who have come meanwhile have their answers.
func (b *bench) absent(ctx context.Context, server stack.Server, kill bool, got *timeline) (a absence, err error) {
	if at, err := b.goodSince(ctx, got, time.Now()); err != nil || at.IsZero() {
		return a, errors.Join(errors.New("it does not serve"), err)
	}
	leave, come := server.Freeze, func(context.Context) error { return server.Thaw() }
	if kill {
		leave, come = server.Kill, server.Start
	}
	a.from = time.Now()
	if err := leave(); err != nil {
		return a, err
	}
	if err := load.Pass(ctx, b.Outage); err != nil {
		return a, err
	}
	if err := come(ctx); err != nil {
		return a, err
	}
	a.to = time.Now()
	a.served, err = b.goodSince(ctx, got, a.to)
	for end := a.to.Add(outagePatience); err == nil && time.Now().Before(end) && !got.complete(a.from, a.to); {
		err = load.Pass(ctx, outageLook)
	}
	return a, err
}

// goodSince waits until a service serves for good, and returns since when it does,
// or the zero time when it does not.
func (b *bench) goodSince(ctx context.Context, got *timeline, from time.Time) (at time.Time, err error) {
	for end := time.Now().Add(b.Back); time.Now().Before(end); {
		if at, good := got.good(from); good {
			return at, nil
		}
		if err := load.Pass(ctx, outageLook); err != nil {
			return at, err
		}
	}
	return at, nil
}

// heal has the server serve again, whatever it was when a turn ended.
func (b *bench) heal(ctx context.Context, c contender) error {
	_ = c.server.Thaw() // it may not be frozen
	if ctx.Err() != nil {
		return context.Cause(ctx) // all of it goes
	}
	if err := c.server.Start(ctx); err != nil {
		return err
	}
	var err error
	for range 100 {
		if err = b.stack.Reconnect(); err == nil {
			if _, err = c.waiting(ctx); err == nil {
				return nil
			}
		}
		if err := load.Pass(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("wait until the server serves again: %w", err)
}

// addOutage takes down the answers while the server was away.
func (b *bench) addOutage(measure string, c contender, times absence, answers []load.Answer) error {
	if len(answers) == 0 {
		return errors.New("no submission came meanwhile")
	}
	took := hdrhistogram.New(1, int64(time.Hour), 3)
	classes := make([]int, 6)
	for _, a := range answers {
		if err := took.RecordValue(int64(a.Took)); err != nil {
			return err
		}
		classes[a.Status/100]++
	}
	b.add(measure+"-p50", c, "ms", float64(took.ValueAtQuantile(50))/1e6)
	b.add(measure+"-p99", c, "ms", float64(took.ValueAtQuantile(99))/1e6)
	b.book.Add(measure+"-max", c.name, "ms", float64(took.Max())/1e6)
	for _, class := range []struct {
		name string
		of   int
	}{{"2xx", 2}, {"4xx", 4}, {"5xx", 5}, {"none", 0}} {
		b.book.Add(measure+"-"+class.name, c.name, "%", 100*float64(classes[class.of])/float64(len(answers)))
	}
	if times.served.IsZero() {
		b.add(measure+"-back", c, "s", b.Back.Seconds())
		b.book.Note(measure+"-back", c.name, fmt.Sprintf("not within %v", b.Back))
		return nil
	}
	b.add(measure+"-back", c, "s", times.served.Sub(times.to).Seconds())
	return nil
}

// timeline are the answers of an open loop.
type timeline struct {
	mu      sync.Mutex
	answers []load.Answer
}

func (t *timeline) add(a load.Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers = append(t.answers, a)
}

// between returns the answers to what was due from a moment on and before another.
func (t *timeline) between(from, to time.Time) []load.Answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var some []load.Answer
	for _, a := range t.answers {
		if !a.Due.Before(from) && a.Due.Before(to) {
			some = append(some, a)
		}
	}
	slices.SortFunc(some, func(x, y load.Answer) int { return cmp.Compare(x.Number, y.Number) })
	return some
}

// complete reports whether all that was due in between has its answer or has given
// up.
func (t *timeline) complete(from, to time.Time) bool {
	return len(t.between(from, to)) >= int(to.Sub(from).Seconds()*outageRate)-1
}

// good returns when the first of several in a row was accepted, of those that were
// due from a moment on.
func (t *timeline) good(from time.Time) (time.Time, bool) {
	first, n := load.Answer{}, 0
	for _, a := range t.between(from, time.Now()) {
		if a.Status != http.StatusAccepted {
			n = 0
			continue
		}
		if n == 0 || a.Number != first.Number+int64(n) {
			first, n = a, 0
		}
		if n++; n == inARow {
			return first.Due.Add(first.Took), true
		}
	}
	return time.Time{}, false
}
