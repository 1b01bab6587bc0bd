package runner

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync/atomic"
	"time"
)

// Kinds of tasks.
const (
	// Noop does nothing.
	Noop = "noop"
	// Sleep waits for a millisecond.
	Sleep = "sleep"
	// CPU hashes as many bytes as the processor hashes in a millisecond.
	CPU = "cpu"
	// Payload does nothing with 10 kB of input.
	Payload = "payload"
	// Retry does nothing, but every 20th task fails at its first attempt.
	Retry = "retry"
)

// Kinds are all of them.
func Kinds() []string { return []string{Noop, Sleep, CPU, Payload, Retry} }

const (
	payload    = 10_000
	failsEvery = 20
	// RetryAfter is when a task that has failed is to run again.
	RetryAfter = time.Second
)

// ErrFirstAttempt is what every 20th task of the kind Retry comes to at first.
var ErrFirstAttempt = errors.New("it fails at its first attempt")

// Input is what each task gets.
type Input struct {
	Duration int    `json:"duration"`
	Pad      string `json:"pad,omitempty"`
}

// InputOf returns the input of a kind.
func InputOf(kind string) Input {
	in := Input{Duration: 1}
	if kind == Payload {
		in.Pad = strings.Repeat("x", payload)
	}
	return in
}

// Task does what the tasks of a kind do. It is safe for concurrent use.
type Task struct {
	Kind string
	// Bytes is how much the kind CPU hashes.
	Bytes int

	first atomic.Int64
}

// Do runs one task; attempt is 1 for the first one.
func (t *Task) Do(ctx context.Context, attempt int) error {
	switch t.Kind {
	case Sleep:
		return pause(ctx, time.Millisecond)
	case CPU:
		hash(t.Bytes)
	case Retry:
		if attempt == 1 && t.first.Add(1)%failsEvery == 0 {
			return ErrFirstAttempt
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// block is what is hashed at once.
const block = 64 << 10

func hash(n int) {
	h, piece := sha256.New(), make([]byte, block)
	for ; n > 0; n -= block {
		h.Write(piece[:min(n, block)])
	}
}

// Calibrate returns how many bytes are hashed in a millisecond here: the fastest
// of several tries, so that others on the machine do not matter much.
func Calibrate() int {
	const n, tries = 8 << 20, 5
	best := time.Hour
	for range tries {
		begun := time.Now()
		hash(n)
		best = min(best, time.Since(begun))
	}
	return int(float64(n) * float64(time.Millisecond) / float64(best))
}
