package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// QueueState is what is done with a queue.
type QueueState string

// The states of a queue.
const (
	QueueRunning  QueueState = "running"
	QueuePaused   QueueState = "paused"   // workers take nothing from it
	QueueDraining QueueState = "draining" // it takes no new tasks
)

// Queue is a work queue.
type Queue struct {
	Name  string     `json:"name"`
	State QueueState `json:"state"`
	// Paused says the same as the state.
	Paused bool `json:"paused"`
	// Drained says that it is draining, and that nothing is left.
	Drained bool `json:"drained"`
	// Ready is how many tasks wait in it, nil when the gateway does not know.
	Ready *int `json:"ready"`
	// Held is how many live workers run or have fetched, nil when the gateway
	// does not know.
	Held *int `json:"held"`
	// Foreign says that Celery serves it.
	Foreign bool     `json:"foreign"`
	Tasks   []string `json:"tasks"`
	// Alive is how many live workers take from it.
	Alive int `json:"alive"`

	// What follows RabbitMQ says, as of AsOf. It is nil where it says nothing;
	// without its management API it says no more than Dead and Consumers.

	// Unacked is how many tasks consumers hold, Depth these and Ready together.
	Unacked *int `json:"unacked"`
	Depth   *int `json:"depth"`
	// Dead is how many dead letters there are.
	Dead      *int `json:"dead"`
	Consumers *int `json:"consumers"`
	// RateIn and RateOut are tasks a second that came and left of late.
	RateIn  *float64 `json:"rate_in"`
	RateOut *float64 `json:"rate_out"`
	// OldestAge is for how many seconds the first of those that wait has done so, at
	// least: as long as the gateway has seen it.
	OldestAge *float64   `json:"oldest_age"`
	AsOf      *time.Time `json:"as_of"`
}

// Queues returns the work queues by name.
func (c *Client) Queues(ctx context.Context) ([]Queue, error) {
	list, err := ask[struct {
		Items []Queue `json:"queues"`
	}](ctx, c, http.MethodGet, path("v1", "queues"), nil)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// Queue reads a work queue.
func (c *Client) Queue(ctx context.Context, name string) (*Queue, error) {
	return ask[Queue](ctx, c, http.MethodGet, path("v1", "queues", name), nil)
}

// Pause makes all workers take nothing more from a queue, within a second or
// two. What they have taken is finished, and submissions are taken as ever.
func (c *Client) Pause(ctx context.Context, queue string) error { return c.steer(ctx, queue, "pause") }

// Drain makes a queue take no new tasks while its workers go on, in all gateways
// within two seconds. [Queue].Drained tells when nothing is left.
func (c *Client) Drain(ctx context.Context, queue string) error { return c.steer(ctx, queue, "drain") }

// Resume ends a pause or a drain.
func (c *Client) Resume(ctx context.Context, queue string) error {
	return c.steer(ctx, queue, "resume")
}

// Purged is what a purge has come to.
type Purged struct {
	Name string `json:"name"`
	// Ready is how many tasks waited at the beginning, Purged how many were revoked.
	Ready  int `json:"ready"`
	Purged int `json:"purged"`
	// More says that there may be more of them: ask again.
	More   bool `json:"more"`
	DryRun bool `json:"dry_run"`
}

// Purge revokes the tasks that wait in a queue, the first ones first, up to limit
// of them, or 100000 when that is 0. Those that workers have fetched run, those that
// are delayed come yet. It takes up to 25 s; whoever hangs up stops it.
func (c *Client) Purge(ctx context.Context, queue string, limit int) (*Purged, error) {
	q := url.Values{"all": {"true"}}
	setInt(q, "limit", limit)
	return ask[Purged](ctx, c, http.MethodPost, path("v1", "queues", queue, "purge"), q)
}

// CountWaiting counts what [Client.Purge] would revoke, and does nothing.
func (c *Client) CountWaiting(ctx context.Context, queue string) (int, error) {
	p, err := ask[Purged](ctx, c, http.MethodPost, path("v1", "queues", queue, "purge"), url.Values{"dry_run": {"true"}})
	if err != nil {
		return 0, err
	}
	return p.Ready, nil
}

func (c *Client) steer(ctx context.Context, queue, verb string) error {
	_, err := ask[Queue](ctx, c, http.MethodPost, path("v1", "queues", queue, verb), nil)
	return err
}
