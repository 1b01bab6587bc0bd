package rabbitmq

import (
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// The names of Lovage's own exchanges and queues.
const (
	// RejectedQueue takes what the broker dead-letters; the clerk consumes it.
	RejectedQueue = "lovage.rejected"
	// UnroutableQueue takes delayed messages whose queue is gone, or not there
	// yet: a broker that starts hands on what is due before it knows all of its
	// bindings again. [Publisher.SendOn] brings them to it.
	UnroutableQueue = "lovage.unroutable"

	deadExchange  = "lovage.dead"
	probeExchange = "lovage.probe"
	deadSuffix    = ".dead"

	// noDeliveryLimit is the highest limit that every version accepts: -1
	// drops at the first requeue on 3.10, and no limit means 20 on 4.x.
	noDeliveryLimit = 2147483647
	// workDeliveryLimit is a backstop; poison is found by counting starts.
	workDeliveryLimit = 1000
)

// DeadQueue returns the name of the dead-letter queue of a work queue.
func DeadQueue(queue string) string { return queue + deadSuffix }

// TopologyError says that an object exists with other arguments, or that we
// may not declare it. It does not go away by trying again.
type TopologyError struct {
	Object string
	Err    *amqp.Error
}

func (e *TopologyError) Error() string {
	advice := "delete or rename the one that exists, or run with matching arguments"
	if e.Err.Code == amqp.AccessRefused {
		advice = "give this user the right to it, or let one who has it declare everything and run in passive mode"
	}
	return fmt.Sprintf("declare %s: %s (%s)", e.Object, e.Err.Reason, advice)
}

func (e *TopologyError) Unwrap() error { return e.Err }

// declarer declares on one channel and remembers the first error, so that a
// topology reads as a list.
type declarer struct {
	ch      *amqp.Channel
	passive bool
	err     error
}

// declare opens a channel, lets fn declare on it and closes it.
func declare(conn *amqp.Connection, passive bool, fn func(*declarer)) error {
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	d := &declarer{ch: ch, passive: passive}
	fn(d)
	if d.err != nil {
		return d.err
	}
	return ch.Close()
}

func (d *declarer) queue(name string, args amqp.Table) {
	if d.err != nil {
		return
	}
	var err error
	if d.passive {
		_, err = d.ch.QueueDeclarePassive(name, true, false, false, false, nil)
	} else {
		_, err = d.ch.QueueDeclare(name, true, false, false, false, args)
	}
	d.fail("queue "+name, err)
}

func (d *declarer) exchange(name, kind string, args amqp.Table) {
	if d.err != nil {
		return
	}
	var err error
	if d.passive {
		err = d.ch.ExchangeDeclarePassive(name, kind, true, false, false, false, nil)
	} else {
		err = d.ch.ExchangeDeclare(name, kind, true, false, false, false, args)
	}
	d.fail("exchange "+name, err)
}

func (d *declarer) bindQueue(queue, key, exchange string) {
	if d.err == nil && !d.passive {
		d.fail("binding of queue "+queue, d.ch.QueueBind(queue, key, exchange, false, nil))
	}
}

func (d *declarer) bindExchange(destination, key, source string) {
	if d.err == nil && !d.passive {
		d.fail("binding of exchange "+destination, d.ch.ExchangeBind(destination, key, source, false, nil))
	}
}

func (d *declarer) fail(object string, err error) {
	if err == nil {
		return
	}
	d.err = fmt.Errorf("declare %s: %w", object, err)
	var ae *amqp.Error
	if !errors.As(err, &ae) {
		return
	}
	switch ae.Code {
	case amqp.PreconditionFailed, amqp.AccessRefused:
		d.err = &TopologyError{Object: object, Err: ae}
	case amqp.NotFound:
		d.err = &messages.MissingError{Object: object}
		if d.passive {
			d.err = fmt.Errorf("passive mode declares nothing: %w", d.err)
		}
	}
}

// base declares what every process needs, whatever queues it serves.
func (d *declarer) base() {
	d.exchange(probeExchange, amqp.ExchangeFanout, nil)
	d.exchange(deadExchange, amqp.ExchangeDirect, nil)
	d.exchange(RejectedQueue, amqp.ExchangeFanout, nil)
	d.queue(RejectedQueue, quorum(amqp.Table{"x-delivery-limit": noDeliveryLimit}))
	d.bindQueue(RejectedQueue, "", RejectedQueue)
	d.delayEnd()
}

// work declares a work queue with its place at the end of the delays, and its
// dead-letter queue.
func (d *declarer) work(queue string) {
	d.queue(queue, quorum(amqp.Table{
		"x-dead-letter-exchange": RejectedQueue,
		"x-dead-letter-strategy": "at-least-once",
		"x-overflow":             "reject-publish",
		"x-delivery-limit":       workDeliveryLimit,
	}))
	dead := DeadQueue(queue)
	d.queue(dead, quorum(amqp.Table{"x-delivery-limit": noDeliveryLimit, "x-single-active-consumer": true}))
	d.bindQueue(dead, queue, deadExchange)
	d.delayTarget(queue)
}

// foreign checks that a queue that somebody else declared is there.
func (d *declarer) foreign(queue string) {
	if d.err == nil {
		_, err := d.ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		d.fail("queue "+queue, err)
	}
}

func quorum(args amqp.Table) amqp.Table {
	args["x-queue-type"] = "quorum"
	return args
}
