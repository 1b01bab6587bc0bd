package app

import (
	"context"

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
