package messages

import (
	"encoding/json"
	"time"
)

// CatalogEntry announces one task that workers can run. It stays in the
// catalog when its workers go, so that a fleet can scale to zero.
type CatalogEntry struct {
	Name        string `json:"name"`
	Queue       string `json:"queue"`
	Description string `json:"description,omitempty"`
	// Params are the names of the input's fields in order; positional
	// arguments are mapped to them.
	Params []string `json:"params"`
	// Input is the JSON Schema (2020-12) of the input, Output that of the
	// result. Empty means that anything goes.
	Input      json.RawMessage `json:"input_schema,omitempty"`
	Output     json.RawMessage `json:"output_schema,omitempty"`
	MaxRetries int             `json:"max_retries"`
	// TimeLimit and SoftTimeLimit are seconds, 0 for none.
	TimeLimit     float64 `json:"time_limit,omitempty"`
	SoftTimeLimit float64 `json:"soft_time_limit,omitempty"`
	// Foreign marks a queue that Celery declared and serves.
	Foreign bool `json:"foreign,omitempty"`

	// AnnouncedAt is when a worker last started with this entry.
	AnnouncedAt time.Time `json:"announced_at"`
	// Alive is the number of live workers that run it; filled in by the reader.
	Alive int `json:"-"`
}

// WorkerInfo is the sign of life of one worker.
type WorkerInfo struct {
	// Name is unique per start: "host-pid-random".
	Name    string   `json:"name"`
	Host    string   `json:"host"`
	PID     int      `json:"pid"`
	Version string   `json:"version"`
	Queues  []string `json:"queues"`
	Tasks   []string `json:"tasks"`
	Slots   int      `json:"slots"`
	Busy    int      `json:"busy"`
	// Held is how many tasks it runs or has fetched, by queue.
	Held     map[string]int `json:"held"`
	Started  time.Time      `json:"started"`
	LastSeen time.Time      `json:"last_seen"`
	// Totals are what it has done since it started.
	Totals WorkerTotals `json:"totals"`
}
