package results

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// groupSize is how many calls share a round trip at most.
	groupSize = 256
	// groupTimeout bounds a round trip that is shared: it belongs to no single
	// caller, whose context may end before.
	groupTimeout = ioTimeout
)

// groups lets calls that come while a round trip is under way share the next
// one. A call that comes alone goes at once: nobody waits for others, only for
// the round trip before. The callers do the work themselves, one at a time.
type groups struct {
	store *Store

	mu      sync.Mutex
	busy    bool
	waiting []*member
}

// member is one call of a group.
type member struct {
	call call
	// entry, if set, is entered in the index in the same round trip.
	entry  *entry
	answer answer
	// turn has the group that this member is to carry out, its own, or nothing in
	// it when others have.
	turn chan []*member
}

// do carries out a call in some group. After the end of ctx it returns an error
// and the call may be carried out all the same.
func (g *groups) do(ctx context.Context, c call, e *entry) answer {
	m := &member{call: c, entry: e, turn: make(chan []*member, 1)}
	g.join(m)
	select {
	case group := <-m.turn:
		if group != nil {
			g.exec(ctx, group)
		}
	case <-ctx.Done():
		if !g.leave(ctx, m) {
			// It is under way: its outcome is not known.
			return answer{err: ctx.Err()}
		}
	}
	return m.answer
}

// join adds a member, and makes it lead when nobody does.
func (g *groups) join(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, m)
	if !g.busy {
		g.busy = true
		g.appoint()
	}
}

// appoint makes the first of those who wait carry out the next group. It needs
// the lock.
func (g *groups) appoint() {
	n := min(len(g.waiting), groupSize)
	if n == 0 {
		g.busy = false
		return
	}
	group := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	group[0].turn <- group
}

// leave takes a member out whose caller does not wait any longer. One that was
// appointed leads all the same, because others depend on it. False when others
// carry it out already.
func (g *groups) leave(ctx context.Context, m *member) bool {
	g.mu.Lock()
	if i := slices.Index(g.waiting, m); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		g.mu.Unlock()
		m.answer.err = ctx.Err()
		return true
	}
	g.mu.Unlock()
	select {
	case group := <-m.turn:
		if group != nil {
			g.exec(ctx, group)
		}
		return true
	default:
		return false
	}
}

// exec carries out a group and hands over to the next.
func (g *groups) exec(ctx context.Context, group []*member) {
	if len(group) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), groupTimeout)
		defer cancel()
	}
	calls := make([]call, len(group))
	entries := make([]entry, 0, len(group))
	wanted := func() bool { return false }
	for i, m := range group {
		calls[i] = m.call
		if m.entry != nil {
			entries = append(entries, *m.entry)
		}
	}
	answers := g.store.pipeline(ctx, calls, func(pipe redis.Pipeliner) {
		if len(entries) > 0 {
			g.store.index.move(ctx, pipe, entries...)
		}
		if slices.ContainsFunc(calls, call.changes) {
			wanted = g.store.changes.ask(ctx, pipe)
		}
	})
	g.mu.Lock()
	g.appoint()
	g.mu.Unlock()
	if wanted() {
		// Before anybody goes on: what one task does next is told after this.
		g.store.changes.tell(ctx, changed(calls, answers))
	}
	for i, m := range group {
		m.answer = answers[i]
		m.turn <- nil
	}
}

// changed are the records that the calls have written.
func changed(calls []call, answers []answer) (records []*messages.Result) {
	for i, c := range calls {
		if text, err := answers[i].text(); c.changes() && err == nil && (text == answerDone || text == string(CancelRevoked)) {
			records = append(records, c.record)
		}
	}
	return records
}
