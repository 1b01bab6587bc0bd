package results

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// subscribeBatch bounds one SUBSCRIBE.
	subscribeBatch = 500
	// pulse is how often the connection is asked for a sign of life. After two
	// without any it counts as dead.
	pulse = 3 * time.Second
)

// Watcher tells when the records of tasks change. It holds one connection to
// Redis, whatever the number of watches, and is subscribed only to what is
// being watched. Use [NewWatcher].
type Watcher struct {
	client redis.UniversalClient
	log    *zap.Logger
	// pulse is how often the connection is asked for a sign of life.
	pulse time.Duration
	// down is whether there is no connection.
	down atomic.Bool
	// wake says that there is something dirty.
	wake chan struct{}

	mu      sync.Mutex
	watched map[string]map[*watch]struct{}
	// dirty are the channels that have got their first watch or lost their
	// last one since the subscriptions were adjusted.
	dirty map[string]struct{}
}

// watch is one caller's interest in one channel: it is sent something, or told
// is called.
type watch struct {
	changed chan struct{}
	told    func()
}

func (w *watch) notify() {
	if w.told != nil {
		w.told()
		return
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// NewWatcher returns a watcher that is silent until [Watcher.Run] runs.
func NewWatcher(client redis.UniversalClient, log *zap.Logger) *Watcher {
	if log == nil {
		log = zap.NewNop()
	}
	return &Watcher{
		client:  client,
		log:     log,
		pulse:   pulse,
		wake:    make(chan struct{}, 1),
		watched: make(map[string]map[*watch]struct{}),
		dirty:   make(map[string]struct{}),
	}
}

// Watch returns a channel that has something to receive after the record may
// have changed: after each PUBLISH, once the watch is in force, and after each
// reconnection, for what was missed. So: watch, read the record, and read it
// again at each notice; changes that come faster than they are received are one
// notice. The caller calls stop when it is done, more than once if it likes.
// Watch does not block.
func (w *Watcher) Watch(id string) (changed <-chan struct{}, stop func()) {
	return w.watch(messages.ResultKey(id))
}

// OnChange is [Watcher.Watch] for those who watch many tasks: told is called in
// place of something to receive. It must not block, nor call the watcher.
func (w *Watcher) OnChange(id string, told func()) (stop func()) {
	return w.add(messages.ResultKey(id), &watch{told: told})
}

// WatchCancellations is [Watcher.Watch] for the running tasks that are
// cancelled, of all workers: after a notice, renew the leases that are held.
func (w *Watcher) WatchCancellations() (changed <-chan struct{}, stop func()) {
	return w.watch(cancelChannel)
}

func (w *Watcher) watch(channel string) (changed <-chan struct{}, stop func()) {
	mine := &watch{changed: make(chan struct{}, 1)}
	return mine.changed, w.add(channel, mine)
}

func (w *Watcher) add(channel string, mine *watch) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	watches := w.watched[channel]
	if watches == nil {
		watches = make(map[*watch]struct{})
		w.watched[channel] = watches
		w.markDirty(channel)
	}
	watches[mine] = struct{}{}
	if len(watches) > 1 {
		// The subscription may be in force already, and says so only once.
		mine.notify()
	}
	return func() { w.stop(channel, mine) }
}

func (w *Watcher) stop(channel string, mine *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	watches := w.watched[channel]
	delete(watches, mine)
	if watches != nil && len(watches) == 0 {
		delete(w.watched, channel)
		w.markDirty(channel)
	}
}

// markDirty wants the lock held.
func (w *Watcher) markDirty(channel string) {
	w.dirty[channel] = struct{}{}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run keeps the connection until the context ends, and connects again whenever
// it breaks. It blocks, waits for what it started, and returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	pauses := backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, MaxInterval: 2 * time.Second,
		Multiplier: 2, RandomizationFactor: 0.5,
	}
	pauses.Reset()
	for ctx.Err() == nil {
		err := w.session(ctx, func() {
			pauses.Reset()
			if w.down.CompareAndSwap(true, false) {
				w.log.Info("watching results again")
			}
		})
		if ctx.Err() == nil && w.down.CompareAndSwap(false, true) {
			w.log.Warn("watching results is interrupted", zap.Error(err))
		}
		sleep(ctx, pauses.NextBackOff())
	}
	return nil
}

// session is the life of one connection. It calls up when Redis answers for the
// first time.
func (w *Watcher) session(ctx context.Context, up func()) error {
	ctx, cancel := context.WithCancel(ctx)
	pubsub := w.client.Subscribe(ctx)
	var reading sync.WaitGroup
	var readErr error
	reading.Go(func() {
		defer cancel()
		readErr = w.receive(ctx, pubsub, up)
	})
	err := w.manage(ctx, pubsub)
	cancel()
	// Only closing the connection ends a read.
	closeErr := pubsub.Close()
	reading.Wait()
	return errors.Join(readErr, err, closeErr)
}

// manage keeps the subscriptions equal to what is being watched, and asks for a
// sign of life.
func (w *Watcher) manage(ctx context.Context, pubsub *redis.PubSub) error {
	tick := time.NewTicker(w.pulse)
	defer tick.Stop()
	w.markAllDirty()
	subscribed := make(map[string]struct{})
	if err := pubsub.Ping(ctx); err != nil {
		return err
	}
	for {
		if err := w.adjust(ctx, pubsub, subscribed); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-tick.C:
			if err := pubsub.Ping(ctx); err != nil {
				return err
			}
		}
	}
}

// markAllDirty makes the next adjustment subscribe to everything watched: a new
// connection has no subscriptions.
func (w *Watcher) markAllDirty() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for channel := range w.watched {
		w.dirty[channel] = struct{}{}
	}
}

func (w *Watcher) adjust(ctx context.Context, pubsub *redis.PubSub, subscribed map[string]struct{}) error {
	add, remove := w.takeDirty(subscribed)
	for batch := range slices.Chunk(add, subscribeBatch) {
		if err := pubsub.Subscribe(ctx, batch...); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(remove, subscribeBatch) {
		if err := pubsub.Unsubscribe(ctx, batch...); err != nil {
			return err
		}
	}
	return nil
}

// takeDirty decides what to subscribe to and what not to be subscribed to any
// more, and notes it in subscribed.
func (w *Watcher) takeDirty(subscribed map[string]struct{}) (add, remove []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for channel := range w.dirty {
		_, want := w.watched[channel]
		_, have := subscribed[channel]
		switch {
		case want && !have:
			add = append(add, channel)
			subscribed[channel] = struct{}{}
		case have && !want:
			remove = append(remove, channel)
			delete(subscribed, channel)
		}
	}
	clear(w.dirty)
	return add, remove
}

// receive hands out notices until the connection breaks or is silent for two
// pulses.
func (w *Watcher) receive(ctx context.Context, pubsub *redis.PubSub, up func()) error {
	for first := true; ; first = false {
		received, err := pubsub.ReceiveTimeout(ctx, 2*w.pulse)
		if err != nil {
			return err
		}
		if first {
			up()
		}
		switch m := received.(type) {
		case *redis.Message:
			w.notify(m.Channel)
		case *redis.Subscription:
			// What happened before the subscription was in force was missed.
			w.notify(m.Channel)
		}
	}
}

func (w *Watcher) notify(channel string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for each := range w.watched[channel] {
		each.notify()
	}
}
