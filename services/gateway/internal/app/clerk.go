package app

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
)

// strayQueue is whose dead letter a message becomes that did not come from a
// queue: somebody published it where only the broker should.
const strayQueue = "stray"

const (
	// clerkPrefetch is how many rejected messages are handled at a time.
	clerkPrefetch = 16
	// strayPrefetch is how many delayed messages without a queue are in hand.
	strayPrefetch = 100
	// strayPause is how long one waits before it is tried again.
	strayPause = 5 * time.Second
)

// clerk consumes what the broker dead-letters, gives each task an outcome and
// hands the message on to the dead-letter queue of its work queue; and it brings
// delayed messages to their queue that the broker could not. Every gateway has
// one.
type clerk struct {
	consumer  *rabbitmq.Consumer
	publisher *rabbitmq.Publisher
	processor *delivery.Processor
	log       *zap.Logger
}

func newClerk(store *results.Store, publisher *rabbitmq.Publisher, o rabbitmq.Options, metrics prometheus.Registerer) *clerk {
	o.Name += " clerk"
	return &clerk{
		consumer: rabbitmq.NewConsumer(rabbitmq.ConsumerOptions{
			Options: o, Intakes: []rabbitmq.Intake{
				{Queue: rabbitmq.RejectedQueue, Prefetch: clerkPrefetch},
				{Queue: rabbitmq.UnroutableQueue, Prefetch: strayPrefetch},
			},
		}),
		publisher: publisher, log: o.Log,
		processor: delivery.New(delivery.Options{
			Store: store, Publisher: publisher, Worker: o.Name, Lease: lease, Metrics: metrics, Log: o.Log,
		}),
	}
}

// run works until ctx ends; what is in hand then goes back to the broker.
func (c *clerk) run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	return c.consumer.Run(ctx, func(d *rabbitmq.Delivery) {
		working.Go(func() {
			if d.Queue == rabbitmq.UnroutableQueue {
				c.sendOn(ctx, d)
				return
			}
			c.processor.Reject(ctx, delivery.Delivery{
				Message: &d.Message, Queue: cmp.Or(d.DeadFrom, strayQueue), DeadReason: cmp.Or(d.DeadReason, "unknown"), Acker: d,
			})
		})
	})
}

// sendOn brings a delayed message to its queue. While that is not there the
// message goes behind the others, so that they have their turn.
func (c *clerk) sendOn(ctx context.Context, d *rabbitmq.Delivery) {
	err := c.publisher.SendOn(ctx, &d.Message)
	if err != nil {
		c.log.Warn("delayed message not brought to its queue", zap.String("task_id", d.Message.MessageID), zap.Error(err))
		select {
		case <-time.After(strayPause):
			err = c.publisher.SetAside(ctx, &d.Message)
		case <-d.Gone():
		case <-ctx.Done():
		}
	}
	settle := d.Ack
	if err != nil {
		settle = d.Requeue
	}
	_ = settle() // an error means that it comes again
}
