package rabbitmq

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Delays are kombu's native delayed delivery under our names
// (kombu/transport/native_delayed_delivery.py): a delay in seconds is 28 bits,
// and each bit has a quorum queue whose messages expire after 2^n seconds. The
// routing key holds the bits and the queue; a message enters at its highest
// set bit, waits there, falls to the next level, and so on, until it reaches
// the delivery exchange. Below a second there are nine levels of 100 to 900 ms
// in front.
const (
	delayBits       = 28
	delayUnit       = 100 * time.Millisecond
	delayPrefix     = "lovage_delayed_"
	delayDispatch   = delayPrefix + "dispatch"
	delayDelivery   = delayPrefix + "delivery"
	landingPrefix   = delayPrefix + "to_"
	alternateOption = "alternate-exchange"
)

// MaxDelay is the longest delay, about eight and a half years.
const MaxDelay = (1<<delayBits - 1) * time.Second

// Address is where a message is published to.
type Address struct {
	Exchange string
	Key      string
}

// destination names what has to exist for a message to be routed.
func (a Address) destination() string {
	if a.Exchange == "" {
		return "queue " + a.Key
	}
	return fmt.Sprintf("a queue that exchange %s routes %s to", a.Exchange, a.Key)
}

// Immediate is the address of a work queue: the default exchange.
func Immediate(queue string) Address { return Address{Key: queue} }

// Dead is the address of a work queue's dead-letter queue.
func Dead(queue string) Address { return Address{Exchange: deadExchange, Key: queue} }

// Delayed is the address that delivers to queue after d, rounded up to the
// next 100 ms and bounded by [MaxDelay].
func Delayed(queue string, d time.Duration) Address {
	d = min(max(d, 0), MaxDelay)
	units := uint64((d + delayUnit - 1) / delayUnit)
	if units == 0 {
		return Immediate(queue)
	}
	seconds, tenths := units/10, units%10
	key := delayKey(seconds, queue)
	if tenths > 0 {
		return Address{Exchange: tenthLevel(tenths), Key: key}
	}
	return Address{Exchange: secondLevel(bits.Len64(seconds) - 1), Key: key}
}

func delayKey(seconds uint64, queue string) string {
	var b strings.Builder
	for n := delayBits - 1; n >= 0; n-- {
		b.WriteByte('0' + byte(seconds>>n&1))
		b.WriteByte('.')
	}
	b.WriteString(queue)
	return b.String()
}

func secondLevel(n int) string { return delayPrefix + strconv.Itoa(n) }

func tenthLevel(n uint64) string { return fmt.Sprintf("%s%dms", delayPrefix, n*100) }

// delayEnd declares where every delay ends, which every work queue is bound to.
func (d *declarer) delayEnd() {
	d.exchange(UnroutableQueue, amqp.ExchangeFanout, nil)
	d.queue(UnroutableQueue, quorum(amqp.Table{"x-delivery-limit": noDeliveryLimit}))
	d.bindQueue(UnroutableQueue, "", UnroutableQueue)
	d.exchange(delayDelivery, amqp.ExchangeTopic, amqp.Table{alternateOption: UnroutableQueue})
}

// delays declares the ladder above the end.
func (d *declarer) delays() {
	below := delayDelivery
	for n := range delayBits {
		level := secondLevel(n)
		passed := strings.Repeat("*.", delayBits-1-n)
		d.exchange(level, amqp.ExchangeTopic, nil)
		d.queue(level, delayArgs(int64(time.Second/time.Millisecond)<<n, below))
		d.bindQueue(level, passed+"1.#", level)
		d.bindExchange(below, passed+"0.#", level)
		below = level
	}

	d.exchange(delayDispatch, amqp.ExchangeTopic, nil)
	for k := range delayBits {
		d.bindExchange(secondLevel(delayBits-1-k), strings.Repeat("0.", k)+"1.#", delayDispatch)
	}
	d.bindExchange(delayDelivery, strings.Repeat("0.", delayBits)+"#", delayDispatch)
	for n := uint64(1); n < 10; n++ {
		level := tenthLevel(n)
		d.exchange(level, amqp.ExchangeFanout, nil)
		d.queue(level, delayArgs(int64(n)*delayUnit.Milliseconds(), delayDispatch))
		d.bindQueue(level, "", level)
	}
}

// delayTarget binds a queue to the end of the ladder, by its exact name: a
// pattern ending in the name would deliver high.email to email as well.
func (d *declarer) delayTarget(queue string) {
	d.bindQueue(queue, strings.Repeat("*.", delayBits)+queue, delayDelivery)
}

// delayedFor is the queue that the routing key of a delayed message ends in.
func delayedFor(key string) string {
	parts := strings.SplitN(key, ".", delayBits+1)
	return parts[len(parts)-1]
}

// landing is the name of the last station before a queue that is not ours.
func landing(queue string) string { return landingPrefix + queue }

// delayLanding declares it: a queue whose messages expire at once, and are
// handed on at least once through the default exchange. A level waits for what
// it has handed on, 32 messages at a time; so if the queue at the end refuses
// them or is gone, they have to wait where nobody else's do.
func (d *declarer) delayLanding(queue string) {
	args := delayArgs(0, "")
	args["x-dead-letter-routing-key"] = queue
	d.queue(landing(queue), args)
	d.delayTarget(landing(queue))
}

func delayArgs(ttlMillis int64, next string) amqp.Table {
	return quorum(amqp.Table{
		"x-message-ttl":          ttlMillis,
		"x-dead-letter-exchange": next,
		"x-dead-letter-strategy": "at-least-once",
		"x-overflow":             "reject-publish",
		"x-delivery-limit":       noDeliveryLimit,
	})
}
