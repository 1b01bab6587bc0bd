package console

import (
	"context"
	"net/http"

	"github.com/lovage-mq/lovage/pkg/client"
)

// overviewData is what is happening, at a glance.
type overviewData struct {
	figures
	Queues []client.Queue
	Failed []client.Task
	Kinds  int
}

func (c *Console) overview(ctx context.Context, _ *http.Request) (*view, error) {
	v := &view{name: "overview", Title: "Overview", Section: "overview", Self: "/console"}
	d := overviewData{figures: newFigures(c.sampler.history())}
	v.Data = d
	queues, err := c.client.Queues(ctx)
	if err != nil {
		return v, err
	}
	page, err := c.client.List(ctx, client.Filter{States: []client.State{client.Failure}, Limit: 8})
	if err != nil {
		return v, err
	}
	d.Queues, d.Failed = queues, page.Tasks
	for _, q := range queues {
		d.Kinds += len(q.Tasks)
	}
	v.Data = d
	return v, nil
}
