package delivery_test

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
)

var errConnectionLost = errors.New("connection lost")

// post is a broker in the plainest words: a work queue, delays, what it has
// dead-lettered itself, what is delivered and not acked, and the dead letters.
// It does nothing by itself: the play moves it.
type post struct {
	books *books

	mu       sync.Mutex
	ready    []*messages.Message
	delayed  []parcel
	rejected []*messages.Message
	held     []*hand
	letters  []*messages.Message // dead letters, as they are read
	redriven []*messages.Message // dead letters that were sent again
	sent     []*messages.Message // all that ever came, for duplicates
	// losesAcks says what becomes of acks that are on their way when their
	// connection breaks.
	losesAcks bool
}

// parcel is a message in the delays.
type parcel struct {
	message *messages.Message
	due     time.Time
}

// hand is a delivery that is not settled.
type hand struct {
	post    *post
	worker  *modelWorker
	message *messages.Message
	dead    string // why the broker dead-lettered it
	gone    chan struct{}
	over    bool // acked, given back or gone
}

// put takes a message into the work queue, or into the delays.
func (p *post) put(m *messages.Message, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, m)
	if delay > 0 {
		p.delayed = append(p.delayed, parcel{m, time.Now().Add(delay)})
		return
	}
	p.ready = append(p.ready, m)
}

func (p *post) bury(m *messages.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.letters = append(p.letters, m)
}

// tick carries out the acks that have come, and ends delays. Goroutines that ran
// side by side may have sent in any order, which is not to matter for the play.
func (p *post) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = slices.DeleteFunc(p.held, func(h *hand) bool { return h.over })
	p.delayed = slices.DeleteFunc(p.delayed, func(d parcel) bool {
		due := !d.due.After(time.Now())
		if due {
			p.ready = append(p.ready, d.message)
		}
		return due
	})
	slices.SortStableFunc(p.ready, func(a, b *messages.Message) int { return cmp.Compare(a.MessageID, b.MessageID) })
}

// empty reports whether all is done.
func (p *post) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready)+len(p.delayed)+len(p.rejected)+len(p.held) == 0
}

// deliver hands the message of an index to a worker.
func (p *post) deliver(w *modelWorker, i int) delivery.Delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, dead := &p.ready, ""
	if w.clerk {
		from, dead = &p.rejected, w.world.death
	}
	m := (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	h := &hand{post: p, worker: w, message: m, dead: dead, gone: make(chan struct{}), over: w.world.flaw == acksTooEarly}
	p.held = append(p.held, h)
	return delivery.Delivery{Message: m, Queue: "q", DeadReason: dead, Acker: h}
}

// waiting is how many messages a worker could get.
func (p *post) waiting(clerk bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if clerk {
		return len(p.rejected)
	}
	return len(p.ready)
}

// holds is how many deliveries a worker has.
func (p *post) holds(w *modelWorker) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, h := range p.held {
		if h.worker == w {
			n++
		}
	}
	return n
}

// reject dead-letters a waiting message as a broker does by itself, and returns
// it.
func (p *post) reject(i int) *messages.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.ready[i]
	p.ready = slices.Delete(p.ready, i, i+1)
	p.rejected = append(p.rejected, m)
	return m
}

// lose breaks the connection of a worker: what it has not acked, and acks that
// were on their way, come again.
func (p *post) lose(w *modelWorker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = slices.DeleteFunc(p.held, func(h *hand) bool {
		if h.worker != w {
			return false
		}
		if h.over && !p.losesAcks {
			return true
		}
		h.over = true
		close(h.gone)
		p.books.disturb(h.message.MessageID)
		p.back(h)
		return true
	})
}

// back returns a delivery to where it came from. It needs the lock.
func (p *post) back(h *hand) {
	if h.dead != "" {
		p.rejected = append(p.rejected, h.message)
		return
	}
	p.ready = append(p.ready, h.message)
}

// Ack is written at once and reaches the broker at its next tick, if the
// connection holds for so long.
func (h *hand) Ack() error {
	if h.worker.pass() != nil {
		return errConnectionLost
	}
	h.post.mu.Lock()
	defer h.post.mu.Unlock()
	if h.over {
		return errConnectionLost
	}
	h.over = true
	return nil
}

func (h *hand) Requeue() error {
	if h.worker.pass() != nil {
		return errConnectionLost
	}
	h.post.mu.Lock()
	defer h.post.mu.Unlock()
	if h.over {
		return errConnectionLost
	}
	h.over = true
	h.post.held = slices.DeleteFunc(h.post.held, func(other *hand) bool { return other == h })
	h.post.back(h)
	return nil
}

func (h *hand) Gone() <-chan struct{} { return h.gone }
