package messages

import "time"

// QueueStats is what the broker says of a work queue. What it does not say is nil.
type QueueStats struct {
	// Ready is how many messages wait in it, Unacked how many consumers hold, and
	// Dead how many are in its dead-letter queue.
	Ready   *int
	Unacked *int
	Dead    *int
	// Consumers is how many take from it, those of other programs included.
	Consumers *int
	// In and Out are how many messages a second came into it and left it of late,
	// each counted once however often it is delivered.
	In  *float64
	Out *float64
	// Oldest is for how long the first of those that wait has done so, at least.
	Oldest *time.Duration
	// At is when the broker said so.
	At time.Time
}
