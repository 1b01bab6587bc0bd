package messages

import "time"

// WorkerInfo is the sign of life of one worker.
type WorkerInfo struct {
	// Name is unique per start: "host-pid-random".
	Name    string   `json:"name"`
	Host    string   `json:"host"`
	PID     int      `json:"pid"`
	Version string   `json:"version"`
	Queues  []string `json:"queues"`
	Tasks   []string `json:"tasks"`
	// Slots is how many tasks may run at a time, Busy how many do. Busy is above
	// Slots for a while after a worker was told to run fewer.
	Slots int `json:"slots"`
	Busy  int `json:"busy"`
	// Held is how many tasks it runs or has fetched, by queue.
	Held map[string]int `json:"held"`
	// Running are the tasks that have run for longest, the longest first.
	Running []RunningTask `json:"running"`
	// Abandoned is how many handlers ignored the end of their context and still
	// run, although their slot was given to another task.
	Abandoned int `json:"abandoned"`
	// Stopping says that it takes no more tasks and ends when those that run have.
	Stopping bool         `json:"stopping"`
	Memory   WorkerMemory `json:"memory"`
	// Goroutines is how many there are in its process.
	Goroutines int       `json:"goroutines"`
	Started    time.Time `json:"started"`
	LastSeen   time.Time `json:"last_seen"`
	// Totals are what it has done since it started.
	Totals WorkerTotals `json:"totals"`
}

// RunningTask is a task that a worker runs.
type RunningTask struct {
	TaskID  string    `json:"task_id"`
	Name    string    `json:"name"`
	Queue   string    `json:"queue"`
	Attempt int       `json:"attempt"`
	Started time.Time `json:"started"`
	// Seconds is for how long it had run at the sign of life that says so.
	Seconds float64 `json:"seconds"`
}

// WorkerMemory is what the process of a worker has, in bytes.
type WorkerMemory struct {
	// RSS is what it has of the machine's memory, 0 where the system does not
	// tell (only Linux does).
	RSS int64 `json:"rss"`
	// Heap is what live and not yet collected objects take up.
	Heap int64 `json:"heap"`
}

// WorkerVerb says what a worker is told to do.
type WorkerVerb string

// What a worker can be told to do.
const (
	VerbSlots WorkerVerb = "slots" // run that many tasks at a time, until its process ends
	VerbStop  WorkerVerb = "stop"  // end as at a signal: take nothing more, and finish what runs
	VerbDump  WorkerVerb = "dump"  // say what the goroutines of a task are doing
)

// WorkerCommand is something that one worker is told.
type WorkerCommand struct {
	ID     string     `json:"id"`
	Verb   WorkerVerb `json:"verb"`
	Slots  int        `json:"slots,omitempty"`
	TaskID string     `json:"task_id,omitempty"`
}

// WorkerAnswer is what a worker has done of a command.
type WorkerAnswer struct {
	// Refused says why it did nothing; empty when it did what it was told.
	Refused string `json:"refused,omitempty"`
	// Slots and Busy are as they are after the command.
	Slots int `json:"slots"`
	Busy  int `json:"busy"`
	// Dump is the answer to VerbDump, and Goroutines how many there are in it.
	Dump       string `json:"dump,omitempty"`
	Goroutines int    `json:"goroutines,omitempty"`
	// Truncated says that Dump is cut off at its limit.
	Truncated bool `json:"truncated,omitempty"`
}

// Delivery says what became of a command.
type Delivery string

// What becomes of a command.
const (
	Answered    Delivery = "answered"    // the worker has answered
	Taken       Delivery = "taken"       // it has taken the command, and says nothing
	Undelivered Delivery = "undelivered" // it has not, and never will
)
