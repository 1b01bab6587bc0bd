package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// operationsTogether is how many operations a gateway works on at a time,
	// each by a connection of its own.
	operationsTogether = 16
	// maxStarts is how often an operation is started that never takes out a
	// letter: it may be what takes the gateways down.
	maxStarts = 3
)

// operationTimes are the times of operations, which tests shorten.
type operationTimes struct {
	save   time.Duration // how often the lease is renewed, and what a cancellation takes
	look   time.Duration // how often operations are looked for that nobody works on
	pass   time.Duration // the longest pass: it keeps others from the letters, and the broker waiting for acks
	pause  time.Duration // after a pass that was cut short or has failed
	giveUp time.Duration // how long to go on without getting any further
}

func defaultOperationTimes() operationTimes {
	return operationTimes{save: time.Second, look: 5 * time.Second, pass: 30 * time.Second, pause: time.Second, giveUp: 15 * time.Minute}
}

var (
	errDraining  = errors.New("the gateway stops")
	errCancelled = errors.New("the operation was cancelled")
	errInVain    = fmt.Errorf("%d gateways have died at it, none of which got any further", maxStarts)
)

// work is an operation in the hands of this gateway.
type work struct {
	token string

	mu sync.Mutex
	op operationRecord
}

func (w *work) snapshot() operationRecord {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.op
}

func (w *work) update(change func(*operationRecord)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.op)
}

// runOperations works on the operations that are begun here, and on those that
// nobody works on any more, until ctx ends or the API drains. Then they are
// given back, each between two letters.
func (a *API) runOperations(ctx context.Context) error {
	defer close(a.rested)
	var working sync.WaitGroup
	defer working.Wait()
	start := func(w *work) {
		working.Go(func() {
			defer a.operating.leave()
			a.operate(ctx, w)
		})
	}
	look := time.NewTicker(a.operationTimes.look)
	defer look.Stop()
	a.takeOver(ctx, start)
	for {
		select {
		case w := <-a.begun:
			start(w)
		case <-look.C:
			a.takeOver(ctx, start)
		case <-a.draining:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// takeOver starts the operations that nobody works on any more.
func (a *API) takeOver(ctx context.Context, start func(*work)) {
	open, err := stored(ctx, a, a.opts.Operations.Open)
	if err != nil {
		return // there is a next time
	}
	for _, s := range open {
		if s.Held || !a.operating.tryEnter() {
			continue
		}
		w, err := a.take(ctx, s.ID)
		if err == nil {
			start(w)
			continue
		}
		a.operating.leave()
		if !errors.Is(err, messages.ErrLost) && !errors.Is(err, messages.ErrStoreUnavailable) {
			a.opts.Log.Error("operation not taken over", zap.String("operation", s.ID), zap.Error(err))
		}
	}
}

func (a *API) take(ctx context.Context, id string) (*work, error) {
	w := &work{token: messages.NewID()}
	s, err := stored(ctx, a, func(ctx context.Context) (StoredOperation, error) {
		return a.opts.OperationLeases.Take(ctx, id, w.token)
	})
	if err != nil {
		return nil, err
	}
	w.op, err = s.read()
	return w, err
}

// operate works on an operation until it ends or has to be given back.
func (a *API) operate(ctx context.Context, w *work) {
	w.update(func(o *operationRecord) { o.Starts++ })
	if w.snapshot().Starts > maxStarts {
		a.conclude(ctx, w, errInVain)
		return
	}
	stop, halt := context.WithCancelCause(ctx)
	defer halt(nil)
	a.keep(stop, halt, w)
	var keeping sync.WaitGroup
	keeping.Go(func() { a.keepOn(stop, halt, w) })
	err := a.perform(ctx, stop, w)
	halt(nil)
	keeping.Wait()
	a.conclude(ctx, w, err)
}

// keepOn renews the lease until stop ends, and halts the work when it must end.
func (a *API) keepOn(stop context.Context, halt context.CancelCauseFunc, w *work) {
	tick := time.NewTicker(a.operationTimes.save)
	defer tick.Stop()
	for {
		select {
		case <-stop.Done():
			return
		case <-a.draining:
			halt(errDraining)
			return
		case <-tick.C:
			a.keep(stop, halt, w)
		}
	}
}

// keep writes how far the work is. While the store is away it goes on as far as
// it can.
func (a *API) keep(stop context.Context, halt context.CancelCauseFunc, w *work) {
	switch cancelled, err := a.save(stop, w, "", true); {
	case errors.Is(err, messages.ErrLost):
		halt(messages.ErrLost)
	case cancelled:
		halt(errCancelled)
	}
}

func (a *API) save(ctx context.Context, w *work, state string, held bool) (cancelled bool, err error) {
	return stored(ctx, a, func(ctx context.Context) (bool, error) {
		o := w.snapshot()
		s, err := o.store(state, held)
		if err != nil {
			return false, err
		}
		return a.opts.OperationLeases.Save(ctx, s, w.token)
	})
}

// perform works until nothing is left to do. When stop ends it returns the
// cause.
func (a *API) perform(ctx, stop context.Context, w *work) error {
	if w.op.Bulk != nil {
		return a.workOffTasks(ctx, stop, w)
	}
	return a.workOff(ctx, stop, w)
}

// workOff passes over the letters until a pass finds nothing more to do, and
// tries again what may only be away. When stop ends it returns the cause.
func (a *API) workOff(ctx, stop context.Context, w *work) error {
	begun, op := time.Now(), w.snapshot()
	d := a.newDealer(op.Kind, op.Queue, op.query())
	for stop.Err() == nil {
		before := op.removed()
		cut, err := a.passFor(ctx, stop, w, d)
		op = w.snapshot()
		switch {
		case stop.Err() != nil:
			continue
		case err != nil:
			if a.givesUp(w, begun, err) {
				return err
			}
		case !cut && op.removed() > before && !op.More:
			continue // there may be letters that the pass did not get to
		case !cut:
			return nil
		}
		select {
		case <-time.After(a.operationTimes.pause):
		case <-stop.Done():
		}
	}
	return context.Cause(stop)
}

// givesUp reports whether an operation that has failed is not worth another try,
// and otherwise says what keeps it from getting further.
func (a *API) givesUp(w *work, begun time.Time, err error) bool {
	p := problemOf(err)
	if !p.Retryable || time.Since(w.snapshot().Updated) > a.operationTimes.giveUp && time.Since(begun) > a.operationTimes.giveUp {
		return true
	}
	w.update(func(o *operationRecord) { o.Error = &p.Detail })
	return false
}

// passFor passes over the letters once. It cuts the pass short when it takes too
// long, and ends it between two letters when stop ends.
func (a *API) passFor(ctx, stop context.Context, w *work, d *dealer) (cut bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.operationTimes.pass+a.opts.PassTimeout, errPassTooLong)
	defer cancel()
	before := w.snapshot()
	d.out, d.query.limit = dealt{}, math.MaxInt
	if before.Filter.Limit != nil {
		d.query.limit = *before.Filter.Limit - before.removed()
	}
	looked, end := 0, time.Now().Add(a.operationTimes.pass)
	err = a.opts.DeadLetters.Pass(ctx, before.Queue, func(ctx context.Context, m *messages.Message) (Verdict, error) {
		cut = time.Now().After(end) && d.out.removed() > 0 // or it would never get past what it leaves
		if cut || stop.Err() != nil {
			return Stop, nil //nolint:nilerr // the end of stop is no failure of the pass
		}
		v, err := d.deal(ctx, stop, m)
		if v != Stop && err == nil {
			looked++
		}
		w.update(func(o *operationRecord) { o.advance(&before.Counts, &d.out, looked) })
		return v, err
	})
	return cut, err
}

// advance notes what a pass has come to that began after so much was done.
func (o *operationRecord) advance(before *Counts, pass *dealt, looked int) {
	removed, seen := o.removed(), o.Looked
	o.Counts = pass.Counts
	o.Redriven += before.Redriven
	o.Discarded += before.Discarded
	o.Superseded += before.Superseded
	o.Matched += before.removed()
	o.Looked = max(seen, before.removed()+looked)
	o.More = pass.More
	if o.removed() > removed {
		o.Starts = 0
	}
	if o.removed() > removed || o.Looked > seen {
		o.Updated, o.Error = time.Now().UTC(), nil
	}
}

// conclude ends an operation, or gives it back.
func (a *API) conclude(ctx context.Context, w *work, err error) {
	state := stateDone
	switch {
	case err == nil:
	case errors.Is(err, errCancelled):
		state = stateCancelled
	case errors.Is(err, messages.ErrLost):
		a.opts.Log.Warn("operation was taken over by another gateway", w.fields()...)
		return
	case errors.Is(err, errDraining) || ctx.Err() != nil:
		state = ""
	default:
		state = stateFailed
	}
	w.update(func(o *operationRecord) {
		switch state {
		case "":
			o.Starts = max(0, o.Starts-1) // an orderly stop takes the start back
			return
		case stateFailed:
			o.Error = text(failure(err))
		default:
			o.Error = nil
		}
		o.Ended = instant(time.Now())
	})
	_, saving := a.save(context.WithoutCancel(ctx), w, state, false)
	log := a.opts.Log.With(w.fields()...)
	switch {
	case saving != nil:
		log.Warn("operation not recorded, it is taken over when its lease is over", zap.Error(saving))
	case state == stateFailed:
		log.Warn("operation failed", zap.Error(err))
	case state == "":
		log.Info("operation given back")
	default:
		log.Info("operation ended", zap.String("state", state))
	}
}

// failure says to those outside why an operation has failed.
func failure(err error) string {
	if errors.Is(err, errInVain) {
		return err.Error()
	}
	if p := problemOf(err); p.kind != slugInternal {
		return p.Detail
	}
	return "internal error; the log of the gateway says more under the id of the operation"
}

func (w *work) fields() []zap.Field {
	o := w.snapshot()
	if o.Bulk != nil {
		return []zap.Field{zap.String("operation", o.ID), zap.String("kind", o.Kind), zap.Any("counts", o.Bulk.Counts)}
	}
	return []zap.Field{
		zap.String("operation", o.ID), zap.String("kind", o.Kind), zap.String("queue", o.Queue),
		zap.Int("looked", o.Looked), zap.Int("redriven", o.Redriven), zap.Int("discarded", o.Discarded), zap.Int("superseded", o.Superseded),
	}
}
