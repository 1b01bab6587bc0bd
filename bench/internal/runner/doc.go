// Package runner is what all programs share that work off a queue: the tasks,
// the clock, and how they tell what they have measured.
package runner
