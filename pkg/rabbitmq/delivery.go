package rabbitmq

import (
	"errors"
	"fmt"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// ErrStale says that the connection a delivery came by is gone. The broker
// delivers it again, to whoever consumes then.
var ErrStale = errors.New("delivery is stale, the broker delivers it again")

// Delivery is one message that the broker handed to us. It is settled exactly
// once, by Ack or Requeue.
type Delivery struct {
	Message messages.Message
	// Queue is the queue it was consumed from.
	Queue string
	// DeadFrom and DeadReason are set when the broker dead-lettered it: the
	// queue it died in last and why (expired, rejected, maxlen,
	// delivery_limit).
	DeadFrom   string
	DeadReason string

	tag     uint64
	acks    *acks
	gone    <-chan struct{}
	settled atomic.Bool
}

func newDelivery(queue string, d amqp.Delivery, acks *acks, gone <-chan struct{}) *Delivery {
	from, _ := d.Headers["x-last-death-queue"].(string)
	reason, _ := d.Headers["x-last-death-reason"].(string)
	if from == "" {
		from, reason = firstDeath(d.Headers)
	}
	return &Delivery{
		Message: received(&d), Queue: queue,
		DeadFrom: from, DeadReason: reason, tag: d.DeliveryTag, acks: acks, gone: gone,
	}
}

// firstDeath reads the newest entry of x-death, which is the first: RabbitMQ
// writes x-last-death-* only from 3.13 on.
func firstDeath(h amqp.Table) (queue, reason string) {
	list, _ := h["x-death"].([]any)
	if len(list) == 0 {
		return "", ""
	}
	newest, _ := list[0].(amqp.Table)
	queue, _ = newest["queue"].(string)
	reason, _ = newest["reason"].(string)
	return queue, reason
}

// Gone is closed when the connection that the delivery came by is lost: it
// cannot be settled any more, and the broker delivers it again.
func (d *Delivery) Gone() <-chan struct{} { return d.gone }

// Ack tells the broker that the delivery is done with. It returns [ErrStale]
// when the connection is known to be gone, and blocks no longer than the write
// timeout, and for the acks of others that come at the same time.
func (d *Delivery) Ack() error {
	return d.settle(func() error { return d.acks.ack(d.tag) })
}

// Requeue gives the delivery back to the broker. Errors are those of Ack.
func (d *Delivery) Requeue() error {
	return d.settle(func() error { return d.acks.requeue(d.tag) })
}

func (d *Delivery) settle(fn func() error) error {
	if d.settled.Swap(true) {
		return errors.New("delivery settled twice")
	}
	if err := fn(); err != nil {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	return nil
}
