package client

import (
	"context"
	"net/http"
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

func (c *Client) steer(ctx context.Context, queue, verb string) error {
	_, err := ask[Queue](ctx, c, http.MethodPost, path("v1", "queues", queue, verb), nil)
	return err
}
