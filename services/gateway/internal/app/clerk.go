package app

import (
	"cmp"
	"context"
	"sync"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
)

// strayQueue is whose dead letter a message becomes that did not come from a
// queue: somebody published it where only the broker should.
const strayQueue = "stray"

// clerk consumes what the broker dead-letters, gives each task an outcome and
// hands the message on to the dead-letter queue of its work queue. Every
// gateway has one.
type clerk struct {
	consumer  *rabbitmq.Consumer
	processor *delivery.Processor
}

func newClerk(store *results.Store, publisher *rabbitmq.Publisher, o rabbitmq.Options) *clerk {
	o.Name += " clerk"
	return &clerk{
		consumer: rabbitmq.NewConsumer(rabbitmq.ConsumerOptions{
			Options: o, Intakes: []rabbitmq.Intake{{Queue: rabbitmq.RejectedQueue, Prefetch: clerkPrefetch}},
		}),
		processor: delivery.New(delivery.Options{
			Store: store, Publisher: publisher, Worker: o.Name, Lease: lease, Log: o.Log,
		}),
	}
}

// run works until ctx ends; what is in hand then goes back to the broker.
func (c *clerk) run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	return c.consumer.Run(ctx, func(d *rabbitmq.Delivery) {
		working.Go(func() {
			c.processor.Reject(ctx, delivery.Delivery{
				Message: &d.Message, Queue: cmp.Or(d.DeadFrom, strayQueue), DeadReason: cmp.Or(d.DeadReason, "unknown"), Acker: d,
			})
		})
	})
}
