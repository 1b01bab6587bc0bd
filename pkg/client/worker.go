package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Worker is a worker that is alive.
type Worker struct {
	Name    string   `json:"name"`
	Host    string   `json:"host"`
	PID     int      `json:"pid"`
	Version string   `json:"version"`
	Queues  []string `json:"queues"`
	Tasks   []string `json:"tasks"`
	// Slots is how many tasks it may run at a time, Busy how many it runs. Busy is
	// above Slots for a while after [Client.SetSlots] with fewer.
	Slots int `json:"slots"`
	Busy  int `json:"busy"`
	// Held is how many tasks it runs or has fetched, by queue.
	Held map[string]int `json:"held"`
	// Running are the tasks that it has run for longest, the longest first: up to 5
	// in a list of workers, up to 100 of [Client.Worker].
	Running []RunningTask `json:"running"`
	// Abandoned is how many handlers ignored the end of their context and still run,
	// although their slot was given to another task.
	Abandoned int `json:"abandoned"`
	// Stopping says that it takes no more tasks, and ends when those that run have.
	Stopping bool `json:"stopping"`
	// Memory is what its process has, in bytes.
	Memory struct {
		// RSS is 0 where the worker's system does not tell.
		RSS  int64 `json:"rss"`
		Heap int64 `json:"heap"`
	} `json:"memory"`
	Goroutines int       `json:"goroutines"`
	Started    time.Time `json:"started"`
	LastSeen   time.Time `json:"last_seen"`
	// Totals are what it has done since it started.
	Totals WorkerTotals `json:"totals"`
}

// WorkerTotals count attempts by how they ended.
type WorkerTotals struct {
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	Retried   int64 `json:"retried"`
	Revoked   int64 `json:"revoked"`
}

// RunningTask is a task that a worker runs.
type RunningTask struct {
	TaskID  string    `json:"task_id"`
	Name    string    `json:"name"`
	Queue   string    `json:"queue"`
	Attempt int       `json:"attempt"`
	Started time.Time `json:"started"`
	// Seconds is for how long it had run when the worker was last seen.
	Seconds float64 `json:"seconds"`
}

// Workers returns the workers that have shown a sign of life in the last 15 s.
func (c *Client) Workers(ctx context.Context) ([]Worker, error) {
	list, err := ask[struct {
		Items []Worker `json:"workers"`
	}](ctx, c, http.MethodGet, path("v1", "workers"), nil)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// Worker reads one of them.
func (c *Client) Worker(ctx context.Context, name string) (*Worker, error) {
	return ask[Worker](ctx, c, http.MethodGet, path("v1", "workers", name), nil)
}

// Steered is the answer of a worker that has done what it was told.
type Steered struct {
	Worker string `json:"worker"`
	// Status is "delivered".
	Status string `json:"status"`
	Slots  int    `json:"slots"`
	Busy   int    `json:"busy"`
}

// SetSlots changes how many tasks a worker may run at a time, from 0 to 10000, for
// as long as its process lives. Like the calls below it waits for the worker's
// answer: for 10 s, then its error is a [*Problem] "worker-timeout", which says
// whether the worker may yet do it.
func (c *Client) SetSlots(ctx context.Context, worker string, slots int) (*Steered, error) {
	return ask[Steered](ctx, c, http.MethodPost, path("v1", "workers", worker, "slots"), url.Values{"slots": {strconv.Itoa(slots)}})
}

// StopWorker makes a worker take nothing more, finish what it runs and end, as
// SIGTERM does. What started it may start it again.
func (c *Client) StopWorker(ctx context.Context, worker string) (*Steered, error) {
	return ask[Steered](ctx, c, http.MethodPost, path("v1", "workers", worker, "stop"), nil)
}

// Dump is what the goroutines of a task are doing.
type Dump struct {
	Steered

	TaskID     string `json:"task_id"`
	Goroutines int    `json:"goroutines"`
	// Truncated says that stacks are left out, beyond 64 KiB.
	Truncated bool `json:"truncated"`
	// Dump has each stack once, with the number of goroutines that stand there.
	Dump string `json:"dump"`
}

// Dump asks a worker what a task that it runs is doing.
func (c *Client) Dump(ctx context.Context, worker, taskID string) (*Dump, error) {
	return ask[Dump](ctx, c, http.MethodPost, path("v1", "workers", worker, "dump"), url.Values{"task_id": {taskID}})
}
