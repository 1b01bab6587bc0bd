package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Events are the changes of all tasks. They are told while somebody listens,
// and kept for a while for those who come back.
type Events interface {
	// Listen makes the changes be told for some minutes from now on, and
	// returns the present position once all that comes after it will be.
	Listen(ctx context.Context) (position string, err error)
	// Keep goes on listening. It returns [ErrEventsGone] when that is over.
	Keep(ctx context.Context) error
	// Read returns up to n events after a position, and the position of the
	// last that it has looked at. It returns [ErrEventsGone] when some are not
	// there any more, or it is no position at all.
	Read(ctx context.Context, after string, n int) (events []Event, position string, err error)
	// Watch tells when there are more, until stop is called.
	Watch() (changed <-chan struct{}, stop func())
}

// ErrEventsGone says that events are missing after a position.
var ErrEventsGone = errors.New("some events are gone")

// Event is a change of a task.
type Event struct {
	Position    string
	TaskID      string
	State       messages.State
	Name, Queue string
	At          time.Time
}

const (
	// hubKept is how many events a gateway has at hand. Who is further behind
	// reads from the store.
	hubKept = 4096
	// hubRead is how many are read at a time.
	hubRead = 1000
)

// hubTimes are the times of a hub.
type hubTimes struct {
	gap    time.Duration // between two reads
	look   time.Duration // after which it reads untold
	keep   time.Duration // between two signs that somebody listens
	again  time.Duration // after an error
	linger time.Duration // after the last listener
}

func defaultHubTimes() hubTimes {
	return hubTimes{gap: 25 * time.Millisecond, look: 5 * time.Second, keep: time.Minute, again: time.Second, linger: time.Minute}
}

// change is an event as the listeners of a gateway share it.
type change struct {
	Event
	text []byte // what they send
}

// hub reads the events of all tasks once for all listeners of a gateway, as long
// as there are any.
type hub struct {
	events  Events
	log     *zap.Logger
	times   hubTimes
	timeout time.Duration // of one read
	// called is told when the first listener comes.
	called chan struct{}

	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
	// open is closed while events are being read, and ring has the last of
	// them; the first is number from, base the position before it, and last the
	// one that was read up to.
	open       chan struct{}
	ring       []change
	from       int
	base, last string
}

func newHub(o Options) *hub {
	return &hub{
		events: o.Events, log: o.Log, times: defaultHubTimes(), timeout: o.ReadTimeout, called: make(chan struct{}, 1),
		listeners: map[chan struct{}]struct{}{}, open: make(chan struct{}),
	}
}

// join adds a listener, who is woken when there is something new.
func (h *hub) join() (wake <-chan struct{}, leave func()) {
	mine := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners[mine] = struct{}{}
	notify(h.called)
	return mine, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, mine)
	}
}

// opened is closed as soon as, and as long as, events are being read.
func (h *hub) opened() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// find returns the number of the first event after a position, if it is at hand.
func (h *hub) find(position string) (number int, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if position == h.last {
		return h.from + len(h.ring), true
	}
	for i, c := range slices.Backward(h.ring) {
		if c.Position == position {
			return h.from + i + 1, true
		}
	}
	return h.from, position == h.base
}

// end is the number of the next event, and the position before it.
func (h *hub) end() (number int, position string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.from + len(h.ring), h.last
}

// since returns events from a number on, and the number of the next; false when
// the first of them is not at hand any more.
func (h *hub) since(number int) (some []change, next int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := number - h.from
	if at < 0 {
		return nil, number, false
	}
	// What is in the ring is never written over, only left behind.
	some = h.ring[at:len(h.ring):len(h.ring)]
	return some, number + len(some), true
}

func (h *hub) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.listeners) == 0
}

// run listens whenever somebody does, until ctx ends.
func (h *hub) run(ctx context.Context) error {
	for {
		select {
		case <-h.called:
		case <-ctx.Done():
			return nil
		}
		for !h.idle() && ctx.Err() == nil {
			if err := h.listen(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("events are interrupted", zap.Error(err))
				pause(ctx, h.times.again)
			}
		}
	}
}

// listen reads events until nobody has listened for a while.
func (h *hub) listen(ctx context.Context) error {
	changed, stop := h.events.Watch()
	defer stop()
	var position string
	err := h.ask(ctx, func(ctx context.Context) (err error) {
		position, err = h.events.Listen(ctx)
		return err
	})
	if err != nil {
		return err
	}
	h.begin(position)
	defer h.close()
	look, keep := time.NewTicker(h.times.look), time.NewTicker(h.times.keep)
	defer look.Stop()
	defer keep.Stop()
	for quiet := time.Now(); ; {
		more, err := h.read(ctx)
		if err != nil {
			return err
		}
		idle := h.idle()
		if !idle {
			quiet = time.Now()
		}
		if idle && time.Since(quiet) >= h.times.linger || ctx.Err() != nil {
			return nil
		}
		if !more {
			select {
			case <-changed:
				pause(ctx, h.times.gap)
			case <-look.C:
			case <-keep.C:
				if err := h.ask(ctx, h.events.Keep); err != nil {
					return err
				}
			case <-ctx.Done():
			}
		}
	}
}

// ask asks the store, which has so long to answer.
func (h *hub) ask(ctx context.Context, question func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	return question(ctx)
}

// begin takes up the events after a position. Those who have listened before
// are behind then, and find out for themselves what they have missed.
func (h *hub) begin(position string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.base, h.last = position, position
	close(h.open)
	h.wake()
}

// close lets go of what is at hand: it is not added to any more.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.from += len(h.ring) + 1
	h.ring, h.base, h.last = nil, "", ""
	h.open = make(chan struct{})
}

// read adds the next events, and reports whether there may be more.
func (h *hub) read(ctx context.Context) (more bool, err error) {
	_, after := h.end()
	var events []Event
	var position string
	err = h.ask(ctx, func(ctx context.Context) (err error) {
		events, position, err = h.events.Read(ctx, after, hubRead)
		return err
	})
	if err != nil {
		return false, err
	}
	changes := make([]change, 0, len(events))
	for _, e := range events {
		text, err := eventText(e)
		if err != nil {
			return false, err
		}
		changes = append(changes, change{e, text})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ring = append(h.ring, changes...)
	h.last = position
	if over := len(h.ring) - hubKept; over > hubKept/2 {
		// The others have what they hold of the old one.
		h.base = h.ring[over-1].Position
		h.ring = append(make([]change, 0, 2*hubKept), h.ring[over:]...)
		h.from += over
	}
	if len(changes) > 0 {
		h.wake()
	}
	return len(events) == hubRead, nil
}

// wake wants the lock held.
func (h *hub) wake() {
	for each := range h.listeners {
		notify(each)
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
