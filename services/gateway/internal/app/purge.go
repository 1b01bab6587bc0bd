package app

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
)

const (
	// purgePrefetch is how many tasks are revoked at a time.
	purgePrefetch = 512
	// purgeIdle is after how long without a task the queue counts as empty: its
	// workers take from it as well.
	purgeIdle = 500 * time.Millisecond
	// purgeEnd is how long what is in hand may take when the time is over.
	purgeEnd = 3 * time.Second
)

// purger revokes what waits in a queue: it takes the messages as a worker does,
// and gives each task an outcome, so that nobody waits for it for ever.
type purger struct {
	*rabbitmq.Overview
	options   rabbitmq.Options
	processor *delivery.Processor
	turn      chan struct{} // held by the one purge that goes on here
}

func newPurger(store *results.Store, publisher *rabbitmq.Publisher, overview *rabbitmq.Overview, o rabbitmq.Options) *purger {
	o.Name += " purge"
	o.Passive = true // it makes no queues
	return &purger{
		Overview: overview, options: o, turn: make(chan struct{}, 1),
		processor: delivery.New(delivery.Options{Store: store, Publisher: publisher, Worker: o.Name, Lease: lease, Log: o.Log}),
	}
}

// Purge takes up to so many tasks until the queue is empty or ctx ends.
func (p *purger) Purge(ctx context.Context, queue string, most int) (int, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return 0, nil // another goes on
	}
	run := &purge{purger: p, queue: queue, most: most, came: make(chan struct{}, 1)}
	run.consumer = rabbitmq.NewConsumer(rabbitmq.ConsumerOptions{
		Options: p.options, Intakes: []rabbitmq.Intake{{Queue: queue, Prefetch: min(most, purgePrefetch)}},
	})
	return run.run(ctx)
}

// purge is one that goes on.
type purge struct {
	*purger
	queue    string
	most     int
	consumer *rabbitmq.Consumer
	came     chan struct{} // something came, or the last one did
	settled  atomic.Int64
	working  sync.WaitGroup

	mu    sync.Mutex
	taken int
	late  []*rabbitmq.Delivery // beyond the most
}

func (p *purge) run(ctx context.Context) (int, error) {
	// What is in hand is finished when the time is over.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	consumed := make(chan error, 1)
	go func() { consumed <- p.consumer.Run(life, func(d *rabbitmq.Delivery) { p.take(life, d) }) }()
	connected := p.await(ctx)
	ending, cancel := context.WithTimeout(life, purgeEnd)
	defer cancel()
	p.consumer.Pause(ending)
	context.AfterFunc(ending, end)
	p.working.Wait()
	for _, d := range p.late {
		_ = d.Requeue() // an error means that the broker does it
	}
	end()
	err := <-consumed
	if err == nil && !connected {
		err = messages.ErrBrokerUnavailable
	}
	return int(p.settled.Load()), err
}

// await returns when there is nothing more to take, and reports whether anything
// could be taken at all.
func (p *purge) await(ctx context.Context) bool {
	idle := time.NewTicker(purgeIdle)
	defer idle.Stop()
	connected := false
	for !p.full() {
		select {
		case <-ctx.Done():
			return connected
		case <-p.came:
			connected = true
			idle.Reset(purgeIdle)
		case <-idle.C:
			if connected {
				return true
			}
			connected = p.consumer.Connected()
		}
	}
	return true
}

func (p *purge) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken >= p.most
}

func (p *purge) take(ctx context.Context, d *rabbitmq.Delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.most {
		p.late = append(p.late, d)
		return
	}
	p.taken++
	p.working.Go(func() {
		p.processor.Purge(ctx, delivery.Delivery{Message: &d.Message, Queue: p.queue, Acker: &counted{d, &p.settled}})
	})
	select {
	case p.came <- struct{}{}:
	default:
	}
}

// counted counts what is acked.
type counted struct {
	*rabbitmq.Delivery
	n *atomic.Int64
}

func (c *counted) Ack() error {
	err := c.Delivery.Ack()
	if err == nil {
		c.n.Add(1)
	}
	return err
}
