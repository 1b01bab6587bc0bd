package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

const (
	modelLease = 15 * time.Second
	// modelGrace is what the worker gives to tasks that were interrupted.
	modelGrace = 5 * time.Second
	modelSlots = 3
)

var (
	errDead  = errors.New("the worker is dead")
	errDrain = errors.New("the worker shuts down")
)

// trouble is what is wrong with a dependency of a worker.
type trouble int

const (
	fine trouble = iota
	// away: nothing is done, and that is said.
	away
	// doubtful: it is done, and an error is returned.
	doubtful
	// swallowed: nothing is done, and nobody can tell.
	swallowed
	// late: it is done, and said three seconds later.
	late
)

// spell is trouble that passes.
type spell struct {
	trouble
	until time.Time
}

func (s spell) now() trouble {
	if time.Now().Before(s.until) {
		return s.trouble
	}
	return fine
}

// modelWorker is a process with a Processor in it, which can be killed, frozen
// and shut down. All by which it has an effect passes its gate.
type modelWorker struct {
	world     *world
	name      string
	clerk     bool // takes what the broker has dead-lettered
	client    *redis.Client
	processor *delivery.Processor
	cancelled chan struct{}

	life, work context.Context
	end        context.CancelFunc
	interrupt  context.CancelCauseFunc
	running    sync.WaitGroup
	dead       chan struct{}

	mu       sync.Mutex
	stopping bool
	thawed   chan struct{} // closed while it is not frozen
	thawedAt time.Time
	cut      bool // the broker does not hear of it
	visits   map[*hand]bool
	// When trap has counted down to 0, spring happens: at some point between
	// two effects, wherever that is.
	trap                int
	spring              func()
	storing, publishing spell
}

func (w *world) hire(ctx context.Context, clerk bool) {
	w.hired++
	m := &modelWorker{
		world: w, name: fmt.Sprintf("w%d", w.hired), clerk: clerk, cancelled: make(chan struct{}, 1),
		dead: make(chan struct{}), thawed: make(chan struct{}), visits: map[*hand]bool{},
	}
	close(m.thawed)
	m.client = w.connect()
	m.client.AddHook(storeHook{m})
	m.life, m.end = context.WithCancel(ctx)
	m.work, m.interrupt = context.WithCancelCause(m.life)
	m.processor = delivery.New(delivery.Options{
		Store:     results.New(results.Options{Client: m.client, Lease: modelLease}),
		Publisher: m, Worker: m.name, Lease: modelLease, GuardAfter: w.guardAfter, Cancelled: m.cancelled, Log: w.log,
	})
	w.workers = append(w.workers, m)
	w.living.Go(func() {
		_ = m.processor.Run(m.life)
		m.running.Wait()
		_ = m.client.Close()
	})
}

// accept runs a delivery.
func (m *modelWorker) accept(d delivery.Delivery) {
	h := d.Acker.(*hand)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.alive() {
		m.world.post.lose(m) // it was killed while the broker delivered
		return
	}
	m.visits[h] = true
	m.running.Go(func() {
		if m.clerk {
			m.processor.Reject(m.life, d)
		} else {
			m.processor.Process(m.life, m.work, d, m.handle)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.visits, h)
	})
}

// pass is the gate: a frozen worker waits here, a dead one gets no further.
func (m *modelWorker) pass() error {
	m.mu.Lock()
	spring := func() {}
	if m.trap > 0 {
		if m.trap--; m.trap == 0 {
			spring = m.spring
		}
	}
	m.mu.Unlock()
	spring()
	m.mu.Lock()
	thawed := m.thawed
	m.mu.Unlock()
	select {
	case <-thawed:
	case <-m.dead:
	}
	select {
	case <-m.dead:
		return errDead
	default:
		return nil
	}
}

// freeze lets everything stand still for a while. A broker that hears nothing of
// it for long breaks the connection.
func (m *modelWorker) freeze(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.thawed:
	default:
		return // it is frozen
	}
	frozen := make(chan struct{})
	m.thawed = frozen
	m.world.books.note("%s freezes for %v", m.name, d)
	if d > modelLease {
		time.AfterFunc(modelLease/2, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.cut = true
			m.world.post.lose(m)
		})
	}
	time.AfterFunc(d, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.thawedAt, m.cut = time.Now(), false
		close(frozen)
	})
}

// froze reports whether it was frozen within the last lease.
func (m *modelWorker) froze() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.thawedAt.IsZero() && time.Since(m.thawedAt) < modelLease
}

// kill ends it as kill -9 does: what its goroutines still do has no effect.
func (m *modelWorker) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.alive() {
		return
	}
	m.stopping = true
	close(m.dead)
	m.world.books.note("%s is killed", m.name)
	m.leave()
}

// alive needs no lock: what is closed stays closed.
func (m *modelWorker) alive() bool { return m.life.Err() == nil }

// leave ends its contexts and its connection. It needs the lock.
func (m *modelWorker) leave() {
	for h := range m.visits {
		m.world.books.abandon(h.message.MessageID)
	}
	m.interrupt(nil)
	m.end()
	m.world.post.lose(m)
}

// retire shuts it down as a worker does: no more deliveries, time to end what
// runs, then an interruption, after which what is left is given back.
func (m *modelWorker) retire(drain time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		return
	}
	m.stopping = true
	m.world.books.note("%s shuts down within %v", m.name, drain)
	m.world.living.Go(func() {
		ended := make(chan struct{})
		m.world.living.Go(func() {
			m.running.Wait()
			close(ended)
		})
		select {
		case <-ended:
		case <-m.life.Done():
		case <-time.After(drain):
			m.interrupt(errDrain)
			select {
			case <-ended:
			case <-time.After(modelGrace):
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.leave()
	})
}

// takes reports whether it has a slot free. What it is busy with takes one also
// when the broker has taken it back.
func (m *modelWorker) takes() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.stopping && !m.cut && max(len(m.visits), m.world.post.holds(m)) < modelSlots
}

// Enqueue implements [delivery.Publisher].
func (m *modelWorker) Enqueue(ctx context.Context, _ string, delay time.Duration, msg *messages.Message) error {
	return m.publish(ctx, msg.MessageID, func() { m.world.post.put(msg, delay) })
}

// DeadLetter implements [delivery.Publisher].
func (m *modelWorker) DeadLetter(ctx context.Context, _ string, msg *messages.Message) error {
	return m.publish(ctx, msg.MessageID, func() { m.world.post.bury(msg) })
}

func (m *modelWorker) publish(ctx context.Context, id string, send func()) error {
	if err := m.pass(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return messages.ErrNotSent
	}
	m.mu.Lock()
	state := m.publishing.now()
	m.mu.Unlock()
	switch state {
	case away:
		if m.world.flaw == confirmsWhatIsNotSent {
			return nil
		}
		return messages.ErrBrokerUnavailable
	case swallowed:
		return messages.ErrUnconfirmed
	case doubtful:
		m.world.books.disturb(id)
		send()
		return messages.ErrUnconfirmed
	case late:
		send()
		select {
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
			m.world.books.disturb(id)
			return messages.ErrUnconfirmed
		}
	case fine:
		send()
	}
	return m.pass()
}

// handle is the handler of all tasks: it does what their job says.
func (m *modelWorker) handle(ctx context.Context, t *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
	j, e := m.world.books.enter(m, t)
	takes, done := j.takes, ctx.Done()
	if j.stubborn {
		done = m.dead
	}
	for part := range 2 {
		select {
		case <-time.After(takes / 2):
		case <-done:
			return delivery.Outcome{}
		}
		if m.pass() != nil || ctx.Err() != nil && !j.stubborn {
			return delivery.Outcome{}
		}
		if part == 0 && j.reports {
			// It fails when the store is away or the lease is lost.
			_ = progress(ctx, messages.ProgressInfo{Current: 1, Total: 2, Percent: 50})
		}
	}
	m.world.books.finished(e)
	return j.outcome(t, e)
}
