package app

import (
	"context"
	"errors"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

// reader gives the API the lists of the store in its own terms.
type reader struct{ *results.Store }

func (r reader) List(ctx context.Context, f api.Filter, cursor string, limit int) (api.Page, error) {
	p, err := r.Store.List(ctx, results.Filter(f), cursor, limit)
	return api.Page(p), err
}

// steering gives the API what steers tasks in the store in its own terms.
type steering struct{ store *results.Store }

func (c steering) Cancel(ctx context.Context, id string) (*messages.Result, api.Cancelled, error) {
	r, state, err := c.store.Cancel(ctx, id)
	return r, api.Cancelled(state), err
}

func (c steering) Restart(ctx context.Context, r *messages.Result, ignoreResult bool) (api.Restarted, error) {
	state, err := c.store.Restart(ctx, r, ignoreResult)
	return api.Restarted(state), err
}

// graves gives the API the dead letters of the broker in its own terms.
type graves struct{ letters *rabbitmq.DeadLetters }

func (g graves) Pass(ctx context.Context, queue string, look func(context.Context, *messages.Message) (api.Verdict, error)) error {
	err := g.letters.Pass(ctx, queue, func(ctx context.Context, m *messages.Message) (rabbitmq.Verdict, error) {
		v, err := look(ctx, m)
		return rabbitmq.Verdict(v), err
	})
	if errors.Is(err, rabbitmq.ErrPassing) {
		return errors.Join(api.ErrPassing, err)
	}
	return err
}

// catalog gives the API the catalog, and tells the publisher which queues are
// ours to declare.
type catalog struct {
	*results.Store
	publisher *rabbitmq.Publisher
}

func (c catalog) Catalog(ctx context.Context) ([]messages.CatalogEntry, error) {
	entries, err := c.Store.Catalog(ctx)
	for _, e := range entries {
		if !e.Foreign {
			c.publisher.Adopt(e.Queue)
		}
	}
	// A worker may take from queues that no task has as its own.
	workers, unread := c.Workers(ctx)
	if unread == nil {
		for _, w := range workers {
			c.publisher.Adopt(w.Queues...)
		}
	}
	return entries, err
}

// fleet gives the API single workers.
type fleet struct {
	*results.Store
	watcher *results.Watcher
}

func (f fleet) Tell(ctx context.Context, worker string, c messages.WorkerCommand) (messages.WorkerAnswer, messages.Delivery, error) {
	return f.Store.Tell(ctx, f.watcher, worker, c)
}

// gate is the publisher of the API: it refuses what would make a queue longer
// than allowed.
type gate struct {
	*rabbitmq.Publisher
	depth *rabbitmq.Depth
}

// later is a delay beyond which nobody can tell how full the queue will be. A
// shorter one is no way around a full queue: whoever is refused is not sent
// away for longer.
const later = time.Minute

// Enqueue is that of the publisher, with [messages.ErrQueueFull] in addition.
func (g gate) Enqueue(ctx context.Context, queue string, delay time.Duration, m *messages.Message) error {
	if delay > later {
		return g.Publisher.Enqueue(ctx, queue, delay, m)
	}
	if err := g.depth.Check(queue); err != nil {
		return err
	}
	err := g.Publisher.Enqueue(ctx, queue, delay, m)
	if err == nil {
		g.depth.Sent(queue)
	}
	return err
}

// keys gives the API the reservations of the store in its own terms.
type keys struct{ store *results.Store }

func (k keys) Reserve(ctx context.Context, r api.Reservation, lease time.Duration) (api.Reserved, error) {
	reserved, err := k.store.ReserveKey(ctx, results.Reservation(r), lease)
	return api.Reserved{
		State: api.KeyState(reserved.State), ID: reserved.ID, RetryAfter: reserved.RetryAfter, Answer: reserved.Answer,
	}, err
}

func (k keys) Complete(ctx context.Context, r api.Reservation, answer []byte) error {
	return k.store.CompleteKey(ctx, results.Reservation(r), answer)
}

func (k keys) Release(ctx context.Context, r api.Reservation) error {
	return k.store.ReleaseKey(ctx, results.Reservation(r))
}

// operations gives the API the operations of the store in its own terms.
type operations struct{ store *results.Store }

func (o operations) List(ctx context.Context, queue string) ([]api.StoredOperation, error) {
	return storedOperations(o.store.Operations(ctx, queue))
}

func (o operations) Open(ctx context.Context) ([]api.StoredOperation, error) {
	return storedOperations(o.store.OpenOperations(ctx))
}

func storedOperations(list []results.Operation, err error) ([]api.StoredOperation, error) {
	out := make([]api.StoredOperation, len(list))
	for i, one := range list {
		out[i] = api.StoredOperation(one)
	}
	return out, err
}

func (o operations) Cancel(ctx context.Context, id string) error {
	return o.store.CancelOperation(ctx, id)
}

func (o operations) Begin(ctx context.Context, op api.StoredOperation, token string) (string, error) {
	return o.store.BeginOperation(ctx, results.Operation(op), token)
}

func (o operations) Take(ctx context.Context, id, token string) (api.StoredOperation, error) {
	op, err := o.store.TakeOperation(ctx, id, token)
	return api.StoredOperation(op), err
}

func (o operations) Save(ctx context.Context, op api.StoredOperation, token string) (bool, error) {
	return o.store.SaveOperation(ctx, results.Operation(op), token)
}

// events gives the API the changes of all tasks in its own terms.
type events struct {
	store   *results.Store
	watcher *results.Watcher
}

// Listen waits until everybody knows that somebody listens.
func (e events) Listen(ctx context.Context) (string, error) {
	position, err := e.store.ListenEvents(ctx)
	if err != nil {
		return "", err
	}
	select {
	case <-time.After(results.EventsLag):
		return position, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (e events) Keep(ctx context.Context) error { return eventsError(e.store.KeepEvents(ctx)) }

func (e events) Read(ctx context.Context, after string, n int) ([]api.Event, string, error) {
	found, position, err := e.store.Events(ctx, after, n)
	out := make([]api.Event, len(found))
	for i, one := range found {
		out[i] = api.Event(one)
	}
	return out, position, eventsError(err)
}

func (e events) Watch() (changed <-chan struct{}, stop func()) { return e.watcher.WatchEvents() }

func eventsError(err error) error {
	if _, none := errors.AsType[*messages.InvalidError](err); none || errors.Is(err, results.ErrEventsGone) {
		return errors.Join(api.ErrEventsGone, err)
	}
	return err
}

// vitals give the console what its plots are drawn from.
type vitals struct {
	*results.Store
	depth *rabbitmq.Depth
}

func (v vitals) Ready(queue string) (int, bool) {
	n, _, known := v.depth.Ready(queue)
	return n, known
}
