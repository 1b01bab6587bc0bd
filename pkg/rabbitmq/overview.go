package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// overviewEvery is how often the management API is asked. It counts anew as
	// often by itself (collect_statistics_interval).
	overviewEvery = 5 * time.Second
	// overviewFresh is how long its answer counts, and countFresh that of a queue
	// which was asked over AMQP.
	overviewFresh = 3 * overviewEvery
	countFresh    = 2 * time.Second
	// countMost bounds how many queues are asked over AMQP for one caller.
	countMost = 200
)

// Overview tells what the broker says of queues: by its management API where there
// is one, which is asked every 5 s beside the callers, and else by counting over
// AMQP, which knows less. Create it with [NewOverview] and keep [Overview.Run]
// running; it is safe for concurrent use.
type Overview struct {
	opts       Options
	management *management // nil for none

	mu      sync.Mutex // guards what follows
	stats   map[string]messages.QueueStats
	delayed *int
	at      time.Time // of stats; zero before the first
	down    bool      // whether the management API did not answer of late
	counted map[string]messages.QueueStats

	asking  chan struct{} // held by who asks over AMQP
	reader  depthReader
	attempt int // of the next connection
}

// NewOverview returns an overview that has seen nothing yet. The address of the
// management API is http:// or https:// with a user and a password, and may be
// empty; the error quotes none of it.
func NewOverview(o Options, managementURL string) (*Overview, error) {
	v := &Overview{opts: o.withDefaults(), counted: map[string]messages.QueueStats{}, asking: make(chan struct{}, 1)}
	v.opts.Name += " overview"
	if managementURL == "" {
		return v, nil
	}
	var err error
	v.management, err = newManagement(v.opts, managementURL)
	return v, err
}

// Run asks the management API until ctx ends, and returns nil then.
func (v *Overview) Run(ctx context.Context) error {
	defer func() {
		v.asking <- struct{}{} // whoever asks over AMQP has ended: its caller's time is short
		v.reader.close()
	}()
	if v.management == nil {
		<-ctx.Done()
		return nil
	}
	defer v.management.client.CloseIdleConnections()
	tick := time.NewTicker(overviewEvery)
	defer tick.Stop()
	for {
		v.refresh(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (v *Overview) refresh(ctx context.Context) {
	stats, delayed, err := v.management.look(ctx)
	if ctx.Err() != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if down := err != nil; down != v.down {
		v.down = down
		v.opts.Log.Warn("management api changed", zap.Bool("up", !down), zap.Error(err))
	}
	if err == nil {
		v.stats, v.delayed, v.at = stats, delayed, time.Now()
	}
}

// Stats returns what is known of these queues. It waits only for what is to be
// counted over AMQP, and not past the end of ctx: what is not known by then is
// missing. delayed is how many messages of all queues wait for their time, nil when
// nobody says.
func (v *Overview) Stats(ctx context.Context, queues []string) (stats map[string]messages.QueueStats, delayed *int) {
	v.mu.Lock()
	known, all, at := v.stats, v.delayed, v.at
	v.mu.Unlock()
	stats = make(map[string]messages.QueueStats, len(queues))
	if !at.IsZero() && time.Since(at) < overviewFresh {
		for _, q := range queues {
			if s, found := known[q]; found {
				stats[q] = s
			}
		}
		return stats, all
	}
	v.count(ctx, queues)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, q := range queues {
		if s, found := v.counted[q]; found {
			stats[q] = s
		}
	}
	return stats, nil
}

// Ready asks over AMQP how many messages of a queue wait, now.
//
// Errors: [messages.ErrQueueMissing], [messages.ErrBrokerUnavailable].
func (v *Overview) Ready(ctx context.Context, queue string) (int, error) {
	select {
	case v.asking <- struct{}{}:
		defer func() { <-v.asking }()
	case <-ctx.Done():
		return 0, fmt.Errorf("count queue %q: %w", queue, messages.ErrBrokerUnavailable)
	}
	q, err := v.ask(ctx, queue)
	return q.Messages, err
}

// count asks over AMQP about the queues that were not asked about of late, one
// caller at a time.
func (v *Overview) count(ctx context.Context, queues []string) {
	select {
	case v.asking <- struct{}{}:
		defer func() { <-v.asking }()
	case <-ctx.Done():
		return
	}
	for _, name := range queues[:min(len(queues), countMost)] {
		v.mu.Lock()
		had, found := v.counted[name]
		v.mu.Unlock()
		if found && time.Since(had.At) < countFresh {
			continue
		}
		s, err := v.countOne(ctx, name)
		if errors.Is(err, messages.ErrBrokerUnavailable) {
			return
		}
		v.mu.Lock()
		if v.counted[name] = s; err != nil {
			delete(v.counted, name)
		}
		v.mu.Unlock()
	}
}

func (v *Overview) countOne(ctx context.Context, name string) (messages.QueueStats, error) {
	q, err := v.ask(ctx, name)
	if err != nil {
		return messages.QueueStats{}, err
	}
	s := messages.QueueStats{Ready: &q.Messages, Consumers: &q.Consumers, At: time.Now()}
	if dead, err := v.ask(ctx, DeadQueue(name)); err == nil {
		s.Dead = &dead.Messages
	}
	return s, nil
}

// ask wants the place in asking.
func (v *Overview) ask(ctx context.Context, queue string) (amqp.Queue, error) {
	q, err := v.reader.inspect(ctx, v.opts, v.attempt, queue)
	if err == nil {
		return q, nil
	}
	if no, ok := errors.AsType[*amqp.Error](err); ok && v.reader.link != nil && !v.reader.link.conn.IsClosed() {
		v.reader.channel = nil // the broker has closed it for the question
		if no.Code == amqp.NotFound {
			return q, fmt.Errorf("count queue %q: %w", queue, messages.ErrQueueMissing)
		}
	} else {
		v.reader.close()
		v.attempt++
	}
	return q, fmt.Errorf("count queue %q: %w: %w", queue, messages.ErrBrokerUnavailable, err)
}

// isDelay reports whether a queue is a level of the delays.
func isDelay(queue string) bool { return strings.HasPrefix(queue, delayPrefix) }
