package main

import (
	"context"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/worker"
)

// looseSlots are what a loop by hand has.
const looseSlots = 100

// pickUp measures how soon tasks begin.
func pickUp(ctx context.Context, s settings, progress *runner.Progress) error {
	p := &runner.PickUp{Tasks: s.Messages, Rate: s.Rate, Slots: s.Slots}
	if s.Slots == 0 {
		p.Slots = looseSlots
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := send(ctx, s, p)
		if err == nil {
			progress.Tell(p.Result())
		}
		return err
	})
	g.Go(func() error {
		if s.Slots == 0 {
			return loosely(ctx, s, p)
		}
		w := worker.New(worker.Options{AMQPURL: s.AMQPURL, RedisURL: s.RedisURL, Queue: s.Queue, Concurrency: s.Slots})
		worker.Handle(w, s.Task[0], func(ctx context.Context, _ runner.Input) (struct{}, error) {
			p.Handle(ctx, worker.TaskID(ctx))
			return struct{}{}, nil
		})
		return w.Run(ctx)
	})
	return g.Wait()
}

// loosely is a consumer by hand with a goroutine for each message, which stores
// nothing.
func loosely(ctx context.Context, s settings, p *runner.PickUp) error {
	var all sync.WaitGroup
	defer all.Wait()
	conn, err := amqp.Dial(s.AMQPURL)
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
	deliveries, err := ch.ConsumeWithContext(ctx, s.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for d := range deliveries {
		all.Go(func() {
			p.Handle(ctx, d.MessageId)
			_ = d.Ack(false)
		})
	}
	return nil
}

// send sends all tasks and returns when all are confirmed and have begun.
func send(ctx context.Context, s settings, p *runner.PickUp) error {
	sender := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: rabbitmq.Options{
		URLs: []string{s.AMQPURL}, Name: "pickup", Log: zap.NewNop(),
	}})
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = sender.Run(ctx) })
	sender.Adopt(s.Queue)
	return p.Send(ctx, func(ctx context.Context) (string, error) {
		m, err := messages.Encode(&messages.Task{
			ID: messages.NewID(), Name: s.Task[0], Queue: s.Queue, Kwargs: []byte(`{"duration":1}`), Created: time.Now(),
		})
		if err != nil {
			return "", err
		}
		return m.MessageID, sender.Enqueue(ctx, s.Queue, 0, m)
	})
}
