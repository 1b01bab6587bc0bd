//go:build outage

package outage_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// books are what is compared.
type books struct {
	*chaos
	t          *testing.T
	records    map[string]*messages.Result
	executions map[string][]*execution
	dead       map[string]int
	lost       map[string]bool

	ends       map[string]int
	again      int             // executions that an accident explains
	neverKnown int             // unconfirmed submissions that were not published
	late       []time.Duration // how long after they were due the delayed tasks began
	complaints []string
}

func (b *books) complain(format string, args ...any) {
	b.complaints = append(b.complaints, fmt.Sprintf(format, args...))
}

func (b *books) String() string {
	var out strings.Builder
	accepted := 0
	for _, s := range b.tasks {
		if s.accepted {
			accepted++
		}
	}
	fmt.Fprintf(&out, "seed %d: %d accepted, %d more in doubt of which %d were never published; ", b.seed, accepted, len(b.tasks)-accepted, b.neverKnown)
	fmt.Fprintf(&out, "%d dead letters; %d executions again, each of a worker that was killed or frozen or has lost its lease; %d processes killed or frozen", len(b.dead), b.again, len(b.disturbed))
	if n := len(b.late); n > 0 {
		slices.Sort(b.late)
		fmt.Fprintf(&out, "; %d delayed ones began %v after they were due, 99 %% of them within %v, the last %v", n, b.late[n/2], b.late[n*99/100], b.late[n-1])
	}
	for _, end := range slices.Sorted(maps.Keys(b.ends)) {
		fmt.Fprintf(&out, "\n%6d %s", b.ends[end], end)
	}
	return out.String()
}

func (b *books) check() {
	b.ends = map[string]int{}
	// A worker that its own task has killed takes its neighbours with it.
	for _, s := range b.tasks {
		if s.kind == poison || s.kind == killer {
			for _, e := range b.executions[s.id] {
				if e.outcome == "" {
					b.disturbed[e.pid] = "killed by a task"
				}
			}
		}
	}
	for _, s := range b.tasks {
		b.checkTask(s, b.records[s.id], b.executions[s.id])
	}
	known := map[string]bool{}
	for _, s := range b.tasks {
		known[s.id] = true
	}
	for id := range b.executions {
		if !known[id] {
			b.complain("task %s was refused and ran", id)
		}
	}
	for id, n := range b.dead {
		if r := b.records[id]; r == nil || r.State != messages.Failure {
			b.complain("dead letter %s (%d times) is not of a task that failed", id, n)
		}
	}
}

func (b *books) checkTask(s *submission, r *messages.Result, runs []*execution) {
	b.checkRuns(s, r, runs)
	if r == nil {
		switch {
		case s.ends == nil && len(runs) > 0:
			b.ends["done, result ignored"]++
		case !s.accepted && len(runs) == 0:
			b.neverKnown++
		default:
			b.complain("task %s (%s) is lost: no record, %d executions", s.id, s.kind, len(runs))
		}
		return
	}
	b.ends[s.kind+": "+string(r.State)]++
	if !r.State.Final() {
		if !s.accepted && len(runs) == 0 {
			b.neverKnown++ // its record was written by the gateway that died
			return
		}
		b.complain("task %s (%s) is still %s after %d executions", s.id, s.kind, r.State, len(runs))
		return
	}
	if !slices.Contains(s.ends, r.State) && !b.excused(s, r, runs) {
		b.complain("task %s (%s) ended in %s: %+v", s.id, s.kind, r.State, r.Error)
	}
	if r.State == messages.Failure && b.dead[s.id] == 0 {
		b.complain("task %s (%s) failed and is not in the dead letters", s.id, s.kind)
	}
	if r.State == messages.Success && !slices.ContainsFunc(runs, func(e *execution) bool { return e.outcome == "ok" }) {
		b.complain("task %s (%s) is said to have succeeded and did not", s.id, s.kind)
	}
	if r.State == messages.Revoked && s.cancel == http.StatusOK && len(runs) > 0 && s.kind == "cancelled before it is due" {
		b.complain("task %s was cancelled before it was due and ran", s.id)
	}
}

// excused ends are those that an accident made: a cancellation that came too
// late, or three starts whose workers died or froze. Whoever is frozen beyond
// its lease is dead to the others, and may end when it is thawed.
func (b *books) excused(s *submission, r *messages.Result, runs []*execution) bool {
	if r.State == messages.Failure && r.Reason == messages.ReasonDeliveryLimit {
		died := 0
		for _, e := range runs {
			if how := b.disturbed[e.pid]; how == "frozen" || how != "" && e.outcome == "" {
				died++
			}
		}
		return died >= 3
	}
	return strings.HasPrefix(s.kind, "cancelled") && r.State == messages.Success && s.cancel != http.StatusOK
}

// checkRuns looks at the executions: nothing runs early, nothing runs after its
// end, and an attempt runs again only where an accident explains it.
func (b *books) checkRuns(s *submission, r *messages.Result, runs []*execution) {
	seen := map[int]*execution{}
	if !s.due.IsZero() && len(runs) > 0 {
		b.late = append(b.late, runs[0].start.Sub(s.due))
		// A task that fails would have that of its last attempt.
		if r != nil && runs[0].start.Before(r.ETA) {
			b.complain("task %s (%s) ran %v before its eta", s.id, s.kind, r.ETA.Sub(runs[0].start))
		}
	}
	for _, e := range runs {
		if e.start.Before(s.due) {
			b.complain("task %s (%s) ran %v before it was due", s.id, s.kind, s.due.Sub(e.start))
		}
		// A worker that was frozen right before may begin when it is thawed: nobody
		// can tell it in time.
		if r != nil && r.State.Final() && e.start.After(r.DateDone) && b.disturbed[e.pid] != "frozen" {
			b.complain("task %s (%s) ran %v after it had ended in %s", s.id, s.kind, e.start.Sub(r.DateDone), r.State)
		}
		before := seen[e.attempt]
		seen[e.attempt] = e
		if before == nil {
			continue
		}
		if b.disturbed[before.pid] == "" && !b.lost[s.id] && before.outcome != "interrupted" {
			b.complain("attempt %d of task %s (%s) ran again %v after it was %q, and nothing explains it", e.attempt, s.id, s.kind, e.start.Sub(before.start), before.outcome)
			continue
		}
		b.again++
	}
}
