package results_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// model is what the two records of a task should be, in the plainest words.
type model struct {
	seen         bool
	run, attempt int
	owner        string
	leased       bool
	starts       int
	counted      bool
	cancelled    bool
	final        messages.State
	next         messages.Next
	record       string // the worker that wrote the record last, and the state
}

func (m *model) owns(a messages.Attempt, token string) bool {
	return m.seen && m.run == a.Run && m.attempt == a.Number && m.owner == token
}

// author is the attempt that left next.
func (m *model) author() int {
	if m.final != "" {
		return m.attempt
	}
	return m.attempt - 1
}

func (m *model) claim(a messages.Attempt, token string) messages.Claim {
	if m.seen && a.Run < m.run || m.seen && a.Run == m.run && (m.final != "" || a.Number < m.attempt) {
		c := messages.Claim{Verdict: messages.VerdictFinal, Starts: m.starts}
		if a.Run < m.run || a.Number < m.attempt {
			c.Verdict = messages.VerdictStale
		}
		if a.Run == m.run && a.Number == m.author() {
			c.Next = m.next
		}
		return c
	}
	if !m.seen || a.Run > m.run || a.Number > m.attempt {
		cancelled := m.cancelled && (!m.seen || a.Run == m.run)
		*m = model{seen: true, run: a.Run, attempt: a.Number, cancelled: cancelled, record: m.record}
	}
	if m.owner != "" && m.owner != token && m.leased {
		return messages.Claim{Verdict: messages.VerdictBusy, Starts: m.starts}
	}
	if m.owner != token {
		m.owner, m.counted = token, false
		if m.starts == 0 && !m.cancelled {
			m.starts, m.counted = 1, true
		}
	}
	m.leased, m.next = true, ""
	if m.cancelled {
		return messages.Claim{Verdict: messages.VerdictCancelled, Starts: m.starts}
	}
	m.record = token + " STARTED"
	c := messages.Claim{Verdict: messages.VerdictRun, Starts: m.starts}
	if !m.counted {
		c.Starts++
	}
	return c
}

func (m *model) begin() {
	if !m.counted {
		m.starts, m.counted = m.starts+1, true
	}
	m.leased = true
}

func (m *model) release() {
	if m.counted {
		m.starts--
	}
	m.owner, m.leased, m.counted = "", false, false
}

func (m *model) settle(token string, state messages.State, next messages.Next) {
	m.record, m.next = token+" "+string(state), next
	m.owner, m.leased, m.counted = "", false, false
	if state.Final() {
		m.final = state
		return
	}
	m.attempt, m.starts = m.attempt+1, 0
}

// pick chooses one.
func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// play does the same things to the store and to the model, and requires the
// same answers.
type play struct {
	*testing.T
	rng    *rand.Rand
	store  *results.Store
	client redis.UniversalClient
	id     string
	model
	history []string
}

// move does one random thing. Mostly it is about the attempt that is current,
// now and then about one before or after it.
func (p *play) move() {
	p.Helper()
	a := messages.Attempt{
		ID: p.id, Run: max(0, p.run+pick(p.rng, 0, 0, 0, 0, 0, 0, 0, -1, 1)),
		Number: max(0, p.attempt+pick(p.rng, 0, 0, 0, 0, 0, -1, 1)),
	}
	token := pick(p.rng, "A", "B")
	moves := map[string]func(messages.Attempt, string){
		"claim": p.tryClaim, "begin": p.tryBegin, "renew": p.tryRenew, "release": p.tryRelease,
		"progress": p.tryProgress, "settle": p.trySettle, "done": p.tryDone,
		"lapse": p.lapse, "cancel": p.cancel,
	}
	name := pick(p.rng, "claim", "claim", "claim", "begin", "renew", "release", "progress", "settle", "done", "lapse")
	if p.rng.IntN(100) == 0 {
		// Seldom, or everything ends in REVOKED.
		name = "cancel"
	}
	p.history = append(p.history, fmt.Sprintf("%s %s on run %d attempt %d", token, name, a.Run, a.Number))
	moves[name](a, token)
}

// requireOwner requires success for the owner and refusal for anybody else.
func (p *play) requireOwner(owns bool, err error) {
	p.Helper()
	if owns {
		require.NoError(p, err, p.history)
		return
	}
	require.ErrorIs(p, err, messages.ErrLost, p.history)
	require.NotErrorIs(p, err, messages.ErrStoreUnavailable)
}

func (p *play) tryClaim(a messages.Attempt, token string) {
	p.Helper()
	before := p.record
	want := p.claim(a, token)
	got, err := p.store.Claim(p.Context(), a, token, nil)
	require.NoError(p, err)
	switch {
	case want.Verdict != messages.VerdictRun:
	case p.rng.IntN(2) == 0:
		require.NoError(p, p.store.Progress(p.Context(), a, token, record(p.id, messages.Started, token)))
	default:
		p.record = before // it ends before anybody is told that it has begun
	}
	require.Equal(p, want.Verdict == messages.VerdictBusy, got.Busy > 0, p.history)
	require.Equal(p, want.Next != "", got.Result != nil, p.history)
	got.Busy, got.Result = 0, nil
	require.Equal(p, want, got, p.history)
}

func (p *play) tryBegin(a messages.Attempt, token string) {
	p.Helper()
	owns := p.owns(a, token)
	p.requireOwner(owns, p.store.Begin(p.Context(), a, token))
	if owns {
		p.begin()
	}
}

func (p *play) tryRenew(a messages.Attempt, token string) {
	p.Helper()
	states, err := p.store.Renew(p.Context(), []results.Held{{Attempt: a, Token: token}})
	require.NoError(p, err)
	want := results.LeaseLost
	switch {
	case p.owns(a, token) && p.cancelled:
		want, p.leased = results.LeaseCancelled, true
	case p.owns(a, token):
		want, p.leased = results.LeaseHeld, true
	}
	require.Equal(p, []results.LeaseState{want}, states, p.history)
}

func (p *play) tryRelease(a messages.Attempt, token string) {
	p.Helper()
	require.NoError(p, p.store.Release(p.Context(), a, token))
	if p.owns(a, token) {
		p.release()
	}
}

func (p *play) tryProgress(a messages.Attempt, token string) {
	p.Helper()
	owns := p.owns(a, token)
	p.requireOwner(owns, p.store.Progress(p.Context(), a, token, record(p.id, messages.Progress, token)))
	if owns {
		p.record = token + " PROGRESS"
	}
}

func (p *play) trySettle(a messages.Attempt, token string) {
	p.Helper()
	state := pick(p.rng, messages.Retry, messages.Retry, messages.Retry, messages.Success, messages.Failure, messages.Revoked)
	next := pick(p.rng, messages.NextNone, messages.NextRetry, messages.NextDead)
	p.history = append(p.history, fmt.Sprintf("as %s, next %q", state, next))
	owns := p.owns(a, token)
	p.requireOwner(owns, settle(p.T, p.store, a, token, state, next))
	if owns {
		p.settle(token, state, next)
	}
}

func (p *play) tryDone(a messages.Attempt, _ string) {
	p.Helper()
	require.NoError(p, p.store.Done(p.Context(), a))
	if p.seen && a.Run == p.run && a.Number == p.author() {
		p.next = ""
	}
}

func (p *play) lapse(messages.Attempt, string) {
	p.Helper()
	if p.owner != "" {
		expireLease(p.T, p.client, p.id)
		p.leased = false
	}
}

func (p *play) cancel(messages.Attempt, string) {
	p.Helper()
	cancelTask(p.T, p.client, p.id)
	p.cancelled = true
}

// requireSame compares both records with the model.
func (p *play) requireSame() {
	p.Helper()
	f := taskRecord(p.T, p.client, p.id)
	got := model{
		seen: f["run"] != "", owner: f["owner"], counted: f["counted"] != "", cancelled: f["cancel"] != "",
		final: messages.State(f["state"]), next: messages.Next(f["next"]),
		leased: p.leased, record: p.record,
	}
	_, _ = fmt.Sscan(f["run"], &got.run)
	_, _ = fmt.Sscan(f["attempt"], &got.attempt)
	_, _ = fmt.Sscan(f["starts"], &got.starts)
	require.Equal(p, p.model, got, p.history)

	stored, err := p.client.Get(p.Context(), messages.ResultKey(p.id)).Bytes()
	if p.record == "" {
		require.ErrorIs(p, err, redis.Nil)
		return
	}
	require.NoError(p, err)
	r, err := messages.DecodeResult(stored)
	require.NoError(p, err)
	require.Equal(p, p.record, r.Worker+" "+string(r.State), p.history)
}

// Two workers do what they like, in any order, dying and being cancelled in
// between; both records must be at each moment what the model says. That a
// final state is never written over is part of it.
func TestTwoWorkersAgainstTheModel(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for task := range uint64(60) {
		p := &play{
			T: t, rng: rand.New(rand.NewPCG(seed, task)), store: s, client: client,
			id: fmt.Sprintf("task-%d", task),
		}
		for range 30 {
			p.move()
			p.requireSame()
		}
	}
}
