package delivery_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	modelRetries = 3   // of a task that fails
	forever      = 100 // failures
)

// job is a task with what its handler does, and what has happened to it.
type job struct {
	id        string
	fails     int  // so many attempts, then it succeeds
	permanent bool // it fails as a panic does
	takes     time.Duration
	stubborn  bool // its handler does not look at its context
	reports   bool // progress
	ignored   bool // its result
	eta       time.Duration
	expires   time.Time

	run       int // the latest
	cancelled bool
	rejected  map[int]bool // runs that the broker dead-lettered
	// disturbed: its message came twice, or may have. Then a dead letter may
	// come twice as well.
	disturbed bool
	// abandoned: a worker ended while it was busy with it, so the name of its
	// successor may not have been cleared.
	abandoned bool
}

// pick chooses one.
func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func drawJob(rng *rand.Rand, n int) *job {
	j := &job{
		id:        fmt.Sprintf("job-%02d", n),
		fails:     pick(rng, 0, 0, 0, 1, 2, forever),
		permanent: rng.IntN(8) == 0,
		takes:     pick(rng, 0, 0, 200*time.Millisecond, 3*time.Second, modelLease, 40*time.Second),
		stubborn:  rng.IntN(4) == 0,
		reports:   rng.IntN(3) == 0,
		ignored:   rng.IntN(5) == 0,
		rejected:  map[int]bool{},
	}
	switch rng.IntN(8) {
	case 0:
		j.eta = pick(rng, 300*time.Millisecond, 5*time.Second, time.Minute)
	case 1:
		j.expires = time.Now().Add(pick(rng, -time.Second, 2*time.Second, 20*time.Second))
	}
	return j
}

func (j *job) String() string {
	return fmt.Sprintf("%s (fails %d, permanent %t, takes %v, stubborn %t, reports %t, ignored %t, eta %v, expires %v)",
		j.id, j.fails, j.permanent, j.takes, j.stubborn, j.reports, j.ignored, j.eta, !j.expires.IsZero())
}

func (j *job) task() *messages.Task {
	t := &messages.Task{ID: j.id, Name: "model", Queue: "q", Created: time.Now(), IgnoreResult: j.ignored, Expires: j.expires}
	if j.eta > 0 {
		t.ETA = time.Now().Add(j.eta)
	}
	return t
}

// outcome is what comes of an execution that was not interrupted.
func (j *job) outcome(t *messages.Task, e *execution) delivery.Outcome {
	failed := &messages.TaskError{Type: "Error", Message: fmt.Sprintf("execution %d", e.number)}
	switch {
	case j.permanent:
		failed.Type, failed.Traceback = "Panic", "goroutine 1"
		return delivery.Outcome{State: messages.Failure, Reason: messages.ReasonPermanent, Err: failed}
	case t.Retries >= j.fails:
		return delivery.Outcome{State: messages.Success, Value: []byte(strconv.Itoa(e.number))}
	case t.Retries >= modelRetries:
		return delivery.Outcome{State: messages.Failure, Reason: messages.ReasonRetriesExhausted, Err: failed}
	}
	return delivery.Outcome{State: messages.Retry, RetryIn: time.Second << t.Retries, Err: failed}
}

// ends returns what is wrong with an end of a run, "" for nothing. Convicted says
// that its worker was lost each time it was started.
func (j *job) ends(r *messages.Result, at time.Time, convicted bool) string {
	number, reason := r.Retries, r.Reason
	ok := false
	switch r.State {
	case messages.Success:
		ok = !j.permanent && number == j.fails && reason == ""
	case messages.Revoked:
		ok = reason == "" && (j.cancelled || r.Run == 0 && !j.expires.IsZero() && at.After(j.expires))
	case messages.Failure:
		switch reason {
		case messages.ReasonPermanent:
			ok = j.permanent && number == 0
		case messages.ReasonRetriesExhausted:
			ok = !j.permanent && j.fails == forever && number == modelRetries
		case messages.ReasonDeliveryLimit:
			ok = j.rejected[r.Run] || convicted
		case messages.ReasonBroker:
			ok = j.rejected[r.Run]
		default:
		}
	default:
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("run %d ended as %s %q at attempt %d", r.Run, r.State, reason, number)
}
