package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/worker"
)

const (
	// busyShare is the share of the slots that are busy.
	busyShare = 5
	// readyAfter is how long the consumer has to be there before it counts.
	readyAfter = 2 * time.Second
	// looseSlots are what a loop by hand has.
	looseSlots = 100
)

// pickup sends tasks at a rate, whether or not those before were taken, and
// measures from the broker's confirm of each to the first line of its handler.
type pickup struct {
	settings
	mu    sync.Mutex
	times map[string]*moments
	begun atomic.Int64
}

type moments struct{ confirmed, begun time.Time }

// at notes a moment of a task.
func (p *pickup) at(id string, set func(*moments)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.times[id]
	if m == nil {
		m = &moments{}
		p.times[id] = m
	}
	set(m)
}

// handle is the task: it notes the time and is busy for a while.
func (p *pickup) handle(ctx context.Context, id string, slots int) {
	now := time.Now()
	p.at(id, func(m *moments) { m.begun = now })
	pause := time.NewTimer(time.Duration(float64(time.Second) * float64(slots) / busyShare / p.Rate))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	p.begun.Add(1)
}

func (p *pickup) run(ctx context.Context, d *drained) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := p.send(ctx)
		if err == nil {
			d.tell(p.result())
		}
		return err
	})
	g.Go(func() error {
		if p.Slots == 0 {
			return p.loop(ctx)
		}
		w := worker.New(worker.Options{AMQPURL: p.AMQPURL, RedisURL: p.RedisURL, Queue: p.Queue, Concurrency: p.Slots})
		worker.Handle(w, p.Task, func(ctx context.Context, _ struct {
			Duration int `json:"duration"`
		}) (struct{}, error) {
			p.handle(ctx, worker.TaskID(ctx), p.Slots)
			return struct{}{}, nil
		})
		return w.Run(ctx)
	})
	return g.Wait()
}

// loop is a consumer by hand with a goroutine for each message, which stores
// nothing.
func (p *pickup) loop(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	conn, err := amqp.Dial(p.AMQPURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Qos(looseSlots, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, p.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for d := range deliveries {
		all.Go(func() {
			p.handle(ctx, d.MessageId, looseSlots)
			_ = d.Ack(false)
		})
	}
	return nil
}

// send sends all tasks and returns when all are confirmed and have begun.
func (p *pickup) send(ctx context.Context) error {
	sender := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: rabbitmq.Options{
		URLs: []string{p.AMQPURL}, Name: "pickup", Log: zap.NewNop(),
	}})
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = sender.Run(ctx) })
	sender.Adopt(p.Queue)
	<-time.After(readyAfter)
	tick := time.NewTicker(time.Duration(float64(time.Second) / p.Rate))
	defer tick.Stop()
	var sends errgroup.Group
	for range p.Messages {
		<-tick.C
		sends.Go(func() error { return p.sendOne(ctx, sender) })
	}
	if err := sends.Wait(); err != nil {
		return err
	}
	for p.begun.Load() < p.Messages {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (p *pickup) sendOne(ctx context.Context, sender *rabbitmq.Publisher) error {
	m, err := messages.Encode(&messages.Task{ID: messages.NewID(), Name: p.Task, Queue: p.Queue, Kwargs: []byte(`{"duration":1}`), Created: time.Now()})
	if err != nil {
		return err
	}
	err = sender.Enqueue(ctx, p.Queue, 0, m)
	now := time.Now()
	p.at(m.MessageID, func(t *moments) { t.confirmed = now })
	return err
}

// result are the times in milliseconds. A handler that began before we heard of
// the confirm has waited for nothing.
func (p *pickup) result() map[string]float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var waited []time.Duration
	for _, m := range p.times {
		waited = append(waited, max(0, m.begun.Sub(m.confirmed)))
	}
	slices.Sort(waited)
	at := func(q float64) float64 { return waited[int(q*float64(len(waited)-1))].Seconds() * 1000 }
	return map[string]float64{"p50": at(0.5), "p99": at(0.99), "max": at(1)}
}
