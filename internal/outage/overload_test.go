//go:build outage

package outage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// narrow is what the proxy lets through to the broker, in KB a second: it
	// and not the processors, which the clients use as well, limits what can be
	// submitted.
	narrow = 250
	// warmUp is what is not looked at of each spell.
	warmUp = 4 * time.Second
	// spellLength is what is.
	spellLength = 15 * time.Second
)

// spell is what came of a time under one load.
type spell struct {
	name     string
	accepted float64 // a second
	p50, p99 time.Duration
	refusals time.Duration // their p99
	outcomes map[string]int
}

func (s spell) String() string {
	return fmt.Sprintf("%s: %.0f accepted a second, p50 %s, p99 %s; p99 of refusals %s; %v", s.name, s.accepted, ms(s.p50), ms(s.p99), ms(s.refusals), s.outcomes)
}

// newSpell looks at what was to be sent from then on, for the length of a spell.
func newSpell(name string, list []answer, from time.Time) spell {
	list = where(list, between(from, from.Add(spellLength)))
	fine := where(list, func(a answer) bool { return a.outcome == accepted })
	return spell{
		name: name, accepted: float64(len(fine)) / spellLength.Seconds(), outcomes: tally(list), p50: median(fine), p99: p99(fine),
		refusals: p99(where(list, func(a answer) bool { return strings.HasPrefix(a.outcome, "503") })),
	}
}

func median(list []answer) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return times(list)[len(list)/2]
}

// submitOne submits what was due at a time: a client that is late has made
// others wait, and that counts.
func (l *load) submitOne(ctx context.Context, due time.Time) {
	body := fmt.Sprintf(`{"task":%q,"kwargs":{},"options":{"task_id":%q,"queue":%q}}`, taskName, messages.NewID(), queue)
	a := l.do(ctx, l.submitting, "POST", "/v1/tasks", body)
	a.took += a.sent.Sub(due)
	a.sent = due
	l.mu.Lock()
	defer l.mu.Unlock()
	l.submissions = append(l.submissions, a)
}

// open submits so many a second at random times, whatever becomes of them.
func (l *load) open(t *testing.T, name string, rate float64) spell {
	t.Helper()
	l.submissions = nil
	begun := time.Now()
	end := begun.Add(warmUp + spellLength)
	for due := begun; due.Before(end); due = due.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second))) {
		pauseUntil(t.Context(), due)
		l.clients.Go(func() { l.submitOne(t.Context(), due) })
	}
	l.clients.Wait()
	s := newSpell(name, l.submissions, begun.Add(warmUp))
	t.Logf("%s; the first %v: %v", s, warmUp, newSpellOnset(l.submissions, begun))
	return s
}

// newSpellOnset is what the beginning of a spell was like.
func newSpellOnset(list []answer, begun time.Time) string {
	list = where(list, between(begun, begun.Add(warmUp)))
	fine := where(list, func(a answer) bool { return a.outcome == accepted })
	return fmt.Sprintf("p99 %s, %v", ms(p99(fine)), tally(list))
}

// closed has clients submit one after the other.
func (l *load) closed(t *testing.T, clients int) spell {
	t.Helper()
	l.submissions = nil
	begun := time.Now()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for time.Since(begun) < warmUp+spellLength {
				l.submitOne(t.Context(), time.Now())
			}
		})
	}
	all.Wait()
	s := newSpell(fmt.Sprintf("%d clients, one after the other", clients), l.submissions, begun.Add(warmUp))
	t.Log(s)
	return s
}

// TestOverload submits three times what a narrow path to the broker takes.
// Those that are accepted must not notice much of the others.
//
//nolint:paralleltest // it is about time, and the outages are parallel
func TestOverload(t *testing.T) {
	s := newStack(t)
	g := s.startGateway(t)
	g.awaitWell()
	s.stopWorker() // the queue stays
	s.amqpProxy.poison(toxic{"narrow", "bandwidth", upstream, map[string]any{"rate": narrow}})
	l := newLoad(g, s, "", true)
	defer l.wait()

	capacity := l.closed(t, 128)
	require.Equal(t, map[string]int{accepted: capacity.outcomes[accepted]}, capacity.outcomes, "nobody is refused who waits for the answer before")
	at := l.open(t, "at capacity", capacity.accepted)
	beyond := l.open(t, "at three times capacity", 3*capacity.accepted)
	after := l.open(t, "at half of capacity", capacity.accepted/2)

	require.Equal(t, map[string]int{accepted: after.outcomes[accepted]}, after.outcomes, "nobody is refused when it is over")
	require.GreaterOrEqual(t, beyond.accepted, 0.9*capacity.accepted)
	if timed {
		require.LessOrEqual(t, beyond.p99, 2*at.p99)
	}
}
