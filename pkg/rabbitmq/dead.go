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
	// passFirst is how many letters the first stage of a pass holds, so that the
	// first page of many is quick, and passRoom how many the others do.
	passFirst = 256
	passRoom  = 4096
	// passFlush is how old an ack may be: who dies in the middle has done it for
	// nothing.
	passFlush = 500 * time.Millisecond
	// passSettle is how long a pass waits, at its end, until what a stage leaves
	// is in its place again.
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

// passTag is the consumer of a stage, which has its channel for itself.
const passTag = "pass"

// pass is one pass on its connection. It goes by stages, because the broker reads
// at once all that a consumer may hold, which takes long where that is much.
type pass struct {
	link   *link
	asking *amqp.Channel
	queue  string
	look   func(context.Context, *messages.Message) (Verdict, error)
	stages []*stage
	failed error // what look said
}

// stage is the part of a pass that one channel holds.
type stage struct {
	ch      *amqp.Channel
	letters <-chan amqp.Delivery
	room    int // how many letters the broker hands over before some are acked
	kept    int
	// held is the newest letter that is not removed, acks how many acks were
	// written.
	held amqp.Delivery
	acks int
	// removed is the newest letter that is to be acked with all before it, unacked
	// how many those are, and since when.
	removed uint64
	unacked int
	since   time.Time
}

func (p *pass) run(ctx context.Context) error {
	var err error
	if p.asking, err = p.link.conn.Channel(); err != nil {
		return err
	}
	there, err := p.ask()
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
	if err := p.each(ctx, min(there.Messages, MaxPass)); err != nil {
		return err
	}
	return p.leave(ctx)
}

func (p *pass) ask() (amqp.Queue, error) {
	return p.asking.QueueDeclarePassive(p.queue, true, false, false, false, nil)
}

// empty makes sure that nothing is there. Of a queue that it has not recovered yet
// the broker says the same; it takes a consumer when it has, and counts then
// whoever held letters when it died, until it has put them back.
func (p *pass) empty(ctx context.Context) error {
	s, err := p.open(ctx, 1)
	if err != nil {
		return err
	}
	if err := s.ch.Cancel(passTag, false); err != nil {
		return err
	}
	found := 0
	for range s.letters {
		found++
	}
	there, err := p.ask()
	switch {
	case err != nil:
		return err
	case found+there.Messages > 0:
		return errors.New("the queue is being recovered")
	case there.Consumers > 0:
		return ErrPassing
	}
	return nil
}

// open begins the next stage.
func (p *pass) open(ctx context.Context, room int) (*stage, error) {
	ch, err := p.link.conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Qos(room, 0, false); err != nil {
		return nil, err
	}
	letters, err := ch.ConsumeWithContext(ctx, p.queue, passTag, false, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	s := &stage{ch: ch, letters: letters, room: room}
	p.stages = append(p.stages, s)
	return s, nil
}

// each shows so many letters to look.
func (p *pass) each(ctx context.Context, n int) error {
	silence := time.NewTimer(passSilence)
	defer silence.Stop()
	s, err := p.open(ctx, passFirst)
	if err != nil {
		return err
	}
	for range n {
		if s, err = p.roomy(ctx, s); err != nil {
			return err
		}
		silence.Reset(passSilence)
		select {
		case d, open := <-s.letters:
			if !open {
				return errors.New("the broker ended the consumer")
			}
			if done, err := p.one(ctx, s, d); done || err != nil {
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

// roomy returns a stage for which the broker has more: this one, or the next if
// this one holds all that it may.
func (p *pass) roomy(ctx context.Context, s *stage) (*stage, error) {
	if s.kept+s.unacked < s.room {
		return s, nil
	}
	if s.kept < s.room {
		return s, s.flush()
	}
	if err := s.end(ctx); err != nil {
		return nil, err
	}
	return p.open(ctx, passRoom)
}

func (p *pass) one(ctx context.Context, s *stage, d amqp.Delivery) (done bool, err error) {
	m := received(&d)
	v, err := p.look(ctx, &m)
	if err == nil && v == Remove {
		return false, s.remove(d.DeliveryTag)
	}
	s.kept++
	s.held = d
	p.failed = err
	return v == Stop || err != nil, nil
}

// leave puts back what is kept and returns when it is in its place: who looks
// next wants to see it. What was delivered and not looked at goes back with it.
func (p *pass) leave(ctx context.Context) error {
	// Nothing is to be delivered to the last one that the others give back.
	if err := p.stages[len(p.stages)-1].end(ctx); err != nil {
		return err
	}
	there, err := p.ask()
	if err != nil {
		return err
	}
	// A channel gives back in order, which a nack of many does not. The queue may
	// hear of a channel that closed later first.
	back := there.Messages
	for i, s := range p.stages {
		if err := s.ch.Close(); err != nil {
			return err
		}
		back += s.kept
		others := len(p.stages) - i - 1
		if err := p.settled(ctx, back, others); err != nil {
			return err
		}
	}
	return nil
}

// settled returns when so many letters are in the queue, and no more stages hold
// any than so many, or it takes too long.
func (p *pass) settled(ctx context.Context, letters, stages int) error {
	for end := time.Now().Add(passSettle); ; {
		there, err := p.ask()
		if err != nil || there.Consumers <= stages && there.Messages >= letters || time.Now().After(end) {
			return err
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// end lets the broker deliver nothing more to a stage, which keeps what it has.
func (s *stage) end(ctx context.Context) error {
	if err := s.flush(); err != nil {
		return err
	}
	if s.acks > fewAcks && s.kept > 0 {
		if err := s.awaitAcks(ctx); err != nil {
			return err
		}
	}
	return s.ch.Cancel(passTag, false)
}

// remove acks a letter: at once where letters before it are kept, else
// together with others, soon.
func (s *stage) remove(tag uint64) error {
	if s.kept > 0 {
		s.acks++
		return s.ch.Ack(tag, false)
	}
	if s.unacked == 0 {
		s.since = time.Now()
	}
	s.removed = tag
	if s.unacked++; time.Since(s.since) < passFlush {
		return nil
	}
	return s.flush()
}

// flush acks what was removed before the first letter that is kept.
func (s *stage) flush() error {
	if s.unacked == 0 {
		return nil
	}
	s.unacked = 0
	s.acks++
	return s.ch.Ack(s.removed, true)
}

// awaitAcks returns when the broker has carried out the acks: it does so before
// it delivers a letter again that was given back after them. The newest one that
// is there is taken for that, whose place is behind the others anyway.
func (s *stage) awaitAcks(ctx context.Context) error {
	probe := s.newest()
	if err := s.ch.Nack(probe.DeliveryTag, false, true); err != nil {
		return err
	}
	silence := time.NewTimer(passSilence)
	defer silence.Stop()
	for {
		select {
		case d, open := <-s.letters:
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
func (s *stage) newest() amqp.Delivery {
	for {
		select {
		case d, open := <-s.letters:
			if !open {
				return s.held
			}
			s.held = d
		default:
			return s.held
		}
	}
}
