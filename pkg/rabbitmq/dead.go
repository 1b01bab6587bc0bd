package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// MaxPass is how many dead letters of a queue one pass looks at: the broker
// keeps all of them in hand for it until the pass is over.
const MaxPass = 100_000

const (
	// passSilence is how long a pass waits for the next dead letter.
	passSilence = 5 * time.Second
	// fewAcks may be under way when the channel closes. A quorum queue's client in
	// the broker holds back what goes beyond 32 commands, and forgets it when the
	// channel closes: what was acked would come back.
	fewAcks = 16
	// passAcks is how many letters are acked at once while none is kept, so that
	// a pass over MaxPass letters stays near that.
	passAcks = 6000
	// passFlush is how old an ack may be: who dies in the middle has done it for
	// nothing.
	passFlush = 500 * time.Millisecond
	// passSettle is how long a pass waits, at its end, until what it leaves is
	// in its place again.
	passSettle = time.Second
)

// ErrPassing says that another pass over the same dead letters is under way.
var ErrPassing = errors.New("somebody else looks at the dead letters of this queue")

// Verdict is what a pass does with a dead letter.
type Verdict int

// The verdicts.
const (
	Keep   Verdict = iota // it stays, in its place
	Remove                // it goes
	Stop                  // it stays, and so do all after it
)

// DeadLetters passes over the dead letters of work queues, by a connection of
// its own for each pass. It is safe for concurrent use.
type DeadLetters struct{ opts Options }

// NewDeadLetters connects to nothing yet.
func NewDeadLetters(o Options) *DeadLetters {
	o = o.withDefaults()
	o.Name += " dead letters"
	return &DeadLetters{opts: o}
}

// Pass shows the dead letters of a queue to look, in their order, the first
// [MaxPass] of those that are there now. It blocks until look has said Stop or
// has seen them all, look fails, or ctx ends. What was not removed keeps its
// place. A letter that is removed may be seen again if the connection breaks at
// that moment, so what look does with it beforehand must be safe to repeat.
//
// A queue that nobody has declared has no dead letters. Errors: look's own,
// [ErrPassing], [messages.ErrBrokerUnavailable].
func (d *DeadLetters) Pass(ctx context.Context, queue string, look func(context.Context, *messages.Message) (Verdict, error)) error {
	l, err := dialAny(ctx, d.opts, func(*amqp.Connection) error { return nil })
	if err != nil {
		return fmt.Errorf("pass over the dead letters of %s: %w: %w", queue, messages.ErrBrokerUnavailable, err)
	}
	defer l.close(d.opts.DialTimeout) //nolint:contextcheck // ctx may have ended; closing has a deadline of its own
	p := &pass{link: l, queue: DeadQueue(queue), look: look}
	err = l.until(ctx, func() error { return p.run(ctx) })
	switch {
	case err == nil:
		return p.failed
	case errors.Is(err, ErrPassing):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("pass over the dead letters of %s: %w", queue, context.Cause(ctx))
	}
	return fmt.Errorf("pass over the dead letters of %s: %w: %w", queue, messages.ErrBrokerUnavailable, err)
}

// passTag is the consumer of a pass, which has its channel for itself.
const passTag = "pass"

// pass is one pass on its connection.
type pass struct {
	link  *link
	ch    *amqp.Channel
	queue string
	look  func(context.Context, *messages.Message) (Verdict, error)
	kept  int
	// held is the newest letter that is not removed, acks how many acks were
	// written.
	held amqp.Delivery
	acks int
	// removed is the newest letter that is to be acked with all before it, unacked
	// how many those are, and since when.
	removed uint64
	unacked int
	since   time.Time
	failed  error // what look said
}

func (p *pass) run(ctx context.Context) error {
	var err error
	if p.ch, err = p.link.conn.Channel(); err != nil {
		return err
	}
	there, err := p.ch.QueueDeclarePassive(p.queue, true, false, false, false, nil)
	if missing := new(amqp.Error); errors.As(err, &missing) && missing.Code == amqp.NotFound {
		return nil
	}
	switch {
	case err != nil:
		return err
	case there.Consumers > 0:
		return ErrPassing
	case there.Messages == 0:
		return p.empty(ctx)
	}
	n := min(there.Messages, MaxPass)
	if err := p.ch.Qos(min(n, 1<<16-1), 0, false); err != nil {
		return err
	}
	letters, err := p.ch.ConsumeWithContext(ctx, p.queue, passTag, false, false, false, false, nil)
	if err != nil {
		return err
	}
	if err := p.each(ctx, letters, n); err != nil {
		return err
	}
	return p.leave(ctx, letters)
}

// empty makes sure that nothing is there: the broker says the same of a queue
// that it has not recovered yet, and then counts no consumer either.
func (p *pass) empty(ctx context.Context) error {
	if err := p.ch.Qos(1, 0, false); err != nil {
		return err
	}
	letters, err := p.ch.ConsumeWithContext(ctx, p.queue, passTag, false, false, false, false, nil)
	if err != nil {
		return err
	}
	there, err := p.ch.QueueDeclarePassive(p.queue, true, false, false, false, nil)
	if err != nil {
		return err
	}
	if err := p.ch.Cancel(passTag, false); err != nil {
		return err
	}
	found := there.Messages
	for range letters {
		found++
	}
	if there.Consumers == 0 || found > 0 {
		return errors.New("the queue is being recovered")
	}
	return nil
}

func (p *pass) each(ctx context.Context, letters <-chan amqp.Delivery, n int) error {
	silence := time.NewTimer(passSilence)
	defer silence.Stop()
	for range n {
		silence.Reset(passSilence)
		select {
		case d, open := <-letters:
			if !open {
				return errors.New("the broker ended the consumer")
			}
			if done, err := p.one(ctx, d); done || err != nil {
				return err
			}
		case <-silence.C:
			return ErrPassing // the broker serves one consumer at a time
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (p *pass) one(ctx context.Context, d amqp.Delivery) (done bool, err error) {
	m := received(&d)
	v, err := p.look(ctx, &m)
	if err == nil && v == Remove {
		return false, p.remove(d.DeliveryTag)
	}
	p.kept++
	p.held = d
	p.failed = err
	return v == Stop || err != nil, nil
}

// remove acks a letter: at once where letters before it are kept, else
// together with others, soon.
func (p *pass) remove(tag uint64) error {
	if p.kept > 0 {
		p.acks++
		return p.ch.Ack(tag, false)
	}
	if p.unacked == 0 {
		p.since = time.Now()
	}
	p.removed = tag
	if p.unacked++; p.unacked < passAcks && time.Since(p.since) < passFlush {
		return nil
	}
	return p.flush()
}

// flush acks what was removed before the first letter that is kept.
func (p *pass) flush() error {
	if p.unacked == 0 {
		return nil
	}
	p.unacked = 0
	p.acks++
	return p.ch.Ack(p.removed, true)
}

// leave puts back what is kept and returns when it is in its place: who looks
// next wants to see it. What was delivered and not looked at goes back with it.
func (p *pass) leave(ctx context.Context, letters <-chan amqp.Delivery) error {
	if err := p.flush(); err != nil {
		return err
	}
	if p.acks > fewAcks && p.kept > 0 {
		if err := p.awaitAcks(ctx, letters); err != nil {
			return err
		}
	}
	// The channel gives back in order, which a nack of many does not.
	if err := p.ch.Close(); err != nil {
		return err
	}
	ch, err := p.link.conn.Channel()
	if err != nil {
		return err
	}
	for end := time.Now().Add(passSettle); ; {
		there, err := ch.QueueDeclarePassive(p.queue, true, false, false, false, nil)
		if err != nil || there.Consumers == 0 && there.Messages >= p.kept || time.Now().After(end) {
			return err
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// awaitAcks returns when the broker has carried out the acks: it does so before
// it delivers a letter again that was given back after them. The newest one that
// is there is taken for that, whose place is behind the others anyway.
func (p *pass) awaitAcks(ctx context.Context, letters <-chan amqp.Delivery) error {
	probe := p.newest(letters)
	if err := p.ch.Nack(probe.DeliveryTag, false, true); err != nil {
		return err
	}
	silence := time.NewTimer(passSilence)
	defer silence.Stop()
	for {
		select {
		case d, open := <-letters:
			if !open {
				return errors.New("the broker ended the consumer")
			}
			if d.Redelivered && d.MessageId == probe.MessageId {
				return nil
			}
		case <-silence.C:
			return errors.New("the broker does not deliver again what was given back")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newest is the last of those that have been delivered and are not removed.
func (p *pass) newest(letters <-chan amqp.Delivery) amqp.Delivery {
	for {
		select {
		case d, open := <-letters:
			if !open {
				return p.held
			}
			p.held = d
		default:
			return p.held
		}
	}
}
