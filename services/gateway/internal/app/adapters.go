package app

import (
	"context"
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
	return entries, err
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
