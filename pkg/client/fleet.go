package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// CatalogEntry is a task that workers have announced.
type CatalogEntry struct {
	Name        string `json:"name"`
	Queue       string `json:"queue"`
	Description string `json:"description"`
	// Params are the fields of the input, in the order of positional arguments.
	Params []string `json:"params"`
	// Input and Output are JSON Schemas of the input and the result; null means
	// that anything goes.
	Input      json.RawMessage `json:"input_schema"`
	Output     json.RawMessage `json:"output_schema"`
	MaxRetries int             `json:"max_retries"`
	// TimeLimit and SoftTimeLimit are seconds, 0 for none.
	TimeLimit     float64 `json:"time_limit"`
	SoftTimeLimit float64 `json:"soft_time_limit"`
	// Foreign says that Celery serves the queue.
	Foreign     bool      `json:"foreign"`
	AnnouncedAt time.Time `json:"announced_at"`
	// Indexed are the fields of the input that a [Filter] can name.
	Indexed []string `json:"indexed"`
	// Alive is how many live workers run it.
	Alive int `json:"alive"`
}

// Catalog returns what tasks there are, by name. While workers are being
// replaced a name may appear twice, the newest first.
func (c *Client) Catalog(ctx context.Context) ([]CatalogEntry, error) {
	list, err := ask[struct {
		Items []CatalogEntry `json:"tasks"`
	}](ctx, c, http.MethodGet, path("v1", "catalog"), nil)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// Health is what a gateway says of itself and of what it needs.
type Health struct {
	// Status is "ok", or "draining" while the gateway stops.
	Status string `json:"status"`
	// RabbitMQ is "up", "blocked" or "down".
	RabbitMQ string `json:"rabbitmq"`
	// Redis is "up", "down" or "unknown".
	Redis string `json:"redis"`
	// Catalog is "loaded" or "missing".
	Catalog string `json:"catalog"`
	// Tasks is how many kinds of tasks are in the catalog.
	Tasks int `json:"tasks"`
	// Version is that of the gateway.
	Version string `json:"version"`
	// Time is the gateway's clock, in whole seconds.
	Time time.Time `json:"-"`
}

// Ready asks a gateway how it is. One that is stopping is an answer and no
// error.
func (c *Client) Ready(ctx context.Context) (*Health, error) {
	res, err := c.send(ctx, call{method: http.MethodGet, path: "/readyz"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	h := new(Health)
	if res.StatusCode != http.StatusOK && (res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Content-Type") != "application/json") {
		return nil, readProblem(res)
	}
	if err := decode(res.Body, h); err != nil {
		return nil, err
	}
	h.Time, _ = http.ParseTime(res.Header.Get("Date")) // zero when it does not say
	return h, nil
}
