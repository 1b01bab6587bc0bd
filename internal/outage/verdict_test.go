//go:build outage

package outage_test

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

const (
	// grace is how much later than its deadline an answer may come.
	grace = 100 * time.Millisecond
	// refusalGrace is how much longer a refusal may take than /livez.
	refusalGrace = 10 * time.Millisecond
	// quick is what the p99 of everything but submissions stays below.
	quick = 50 * time.Millisecond
	// noisy is how many times its control a p99 may be where the control
	// itself is slow already: the same path before the fault, or the bystander
	// at the same time.
	noisy = 3
)

// verdict is what came of one fault.
type verdict struct {
	fault       fault
	control     map[string]time.Duration
	rounds      []round
	submissions []answer
	others      []answer

	found            time.Duration // until /readyz said that the broker is away
	recovery         time.Duration // the longest of all rounds
	refusals         []answer      // after the state was known
	livez, idle      []answer      // at the same time
	accepted, ranLen int
	unconfirmed      int
	complaints       []string
}

func (v *verdict) complain(texts ...string) { v.complaints = append(v.complaints, texts...) }

func (v *verdict) expect(ok bool, format string, args ...any) {
	if !ok {
		v.complain(fmt.Sprintf(format, args...))
	}
}

// look judges everything but what became of the tasks.
func (v *verdict) look() {
	v.outcomes()
	v.findings()
	v.recoveries()
	v.refusalsOnceKnown()
	if timed {
		v.deadlines()
		v.quickPaths()
	}
}

func (v *verdict) outcomes() {
	for outcome, n := range tally(v.submissions) {
		fine := outcome == accepted || outcome == unconfirmed || strings.HasPrefix(outcome, "503 ")
		if v.fault.unnoticed {
			fine = outcome == accepted
		}
		v.expect(fine, "%d submissions were answered %q", n, outcome)
	}
	calm := where(v.submissions, func(a answer) bool { return a.at().Before(v.rounds[0].broken) && a.outcome != accepted })
	v.expect(len(calm) == 0 || v.fault.startUp, "before the fault: %v", tally(calm))
	for _, path := range []string{"/livez", "/readyz", "/openapi.json"} {
		for outcome, n := range tally(where(v.others, on(path))) {
			v.expect(outcome == "200", "%s answered %q %d times", path, outcome, n)
		}
	}
	for outcome, n := range tally(where(v.others, isRead)) {
		v.expect(outcome == "200" || v.fault.noStore && outcome == "503 store-unavailable", "reads were answered %q %d times", outcome, n)
	}
}

func isRead(a answer) bool { return strings.HasPrefix(a.path, "/v1/tasks/") }

// findings wants the gateway to find out within the deadline of a submission.
func (v *verdict) findings() {
	for i, r := range v.rounds {
		said := where(v.others, func(a answer) bool {
			return a.path == "/readyz" && a.broker != "up" && !a.sent.Before(r.broken) && a.sent.Before(r.end)
		})
		if len(said) == 0 {
			v.expect(!v.fault.away, "round %d: /readyz never said that the broker is away", i+1)
			continue
		}
		v.found = max(v.found, said[0].sent.Sub(r.broken))
		late := said[0].sent.Sub(r.done)
		v.expect(!v.fault.away || late <= deadline+grace || !timed, "round %d: /readyz said that the broker is away after %v", i+1, late)
	}
}

// recoveries wants every submission to be accepted soon after another client's
// was.
func (v *verdict) recoveries() {
	for i, r := range v.rounds {
		failed := where(v.submissions, func(a answer) bool {
			return between(r.healing, r.end)(a) && a.outcome != accepted
		})
		if len(failed) == 0 {
			continue
		}
		last := failed[len(failed)-1].sent.Sub(r.raw)
		v.recovery = max(v.recovery, last)
		v.expect(last <= soon || !timed, "round %d: submissions fail until %v after another client's was confirmed", i+1, last)
	}
	for _, r := range v.rounds {
		late := where(v.submissions, between(r.raw.Add(soon), r.end))
		v.expect(len(late) > 0 && late[len(late)-1].outcome == accepted, "submissions do not work again")
	}
}

// refusalsOnceKnown compares refusals with /livez while /readyz said, before
// and after, that the broker is away.
func (v *verdict) refusalsOnceKnown() {
	ready := where(v.others, on("/readyz"))
	known := func(a answer) bool {
		i := sort.Search(len(ready), func(i int) bool { return ready[i].sent.After(a.sent) })
		return i > 0 && i < len(ready) && ready[i-1].broker != "up" && ready[i].broker != "up"
	}
	v.refusals = where(v.submissions, func(a answer) bool { return a.outcome == "503 broker-unavailable" && known(a) })
	v.livez = where(v.others, func(a answer) bool { return a.path == "/livez" && known(a) })
	v.idle = where(v.others, func(a answer) bool { return a.path == bystander && known(a) })
	late := p99(v.refusals) - p99(v.livez)
	v.expect(!timed || late <= max(refusalGrace, p99(v.idle)), "p99 of %d refusals is %v, that of /livez at that time %v, of the bystander %v",
		len(v.refusals), p99(v.refusals), p99(v.livez), p99(v.idle))
}

// deadlines wants every answer in time. What the bystander takes at that very
// moment is the machine and not the gateway.
func (v *verdict) deadlines() {
	idle := where(v.others, on(bystander))
	late := 0
	worst := answer{}
	for _, a := range slices.Concat(v.submissions, where(v.others, isRead)) {
		if a.took <= deadline+grace {
			continue
		}
		noise := p99(where(idle, func(i answer) bool { return i.at().Sub(a.at()).Abs() < time.Second/2 }))
		if a.took > deadline+grace+noise {
			late++
			if a.took > worst.took {
				worst = a
			}
		}
	}
	v.expect(late == 0, "%d answers came after their deadline of %v, the last after %v (%s)", late, deadline, worst.took, worst.outcome)
}

func (v *verdict) quickPaths() {
	for _, path := range []string{"/livez", "/readyz", "/openapi.json", readPath} {
		if path == readPath && v.fault.noStore {
			continue
		}
		got, limit := v.p99(path), max(quick, noisy*v.control[path], noisy*v.p99(bystander))
		if path == readPath {
			limit = max(limit, quick+v.p99(straight))
		}
		v.expect(got <= limit, "p99 of %s is %v, more than %v (before the fault %v, bystander %v, %s %v)",
			path, got, limit, v.control[path], v.p99(bystander), straight, v.p99(straight))
	}
}

// readPath stands for all reads of tasks.
const readPath = "GET task"

// p99 is that of a path from the beginning of the fault on.
func (v *verdict) p99(path string) time.Duration {
	return p99(where(pathOf(v.others, path), func(a answer) bool { return a.at().After(v.rounds[0].broken) }))
}

func pathOf(others []answer, path string) []answer {
	if path == readPath {
		return where(others, isRead)
	}
	return where(others, on(path))
}

// ledger takes over what became of the tasks.
func (v *verdict) ledger(led *ledger) {
	v.accepted, v.unconfirmed, v.ranLen = len(led.accepted), len(led.unconfirmed), led.ranUnconfirmed
	const shown = 10
	n := len(led.complaints)
	v.complain(led.complaints[:min(n, shown)]...)
	if n > shown {
		v.complain(fmt.Sprintf("and %d more of the kind", n-shown))
	}
}

// broken are the submissions that were sent or answered during the fault.
func (v *verdict) broken() []answer {
	return where(v.submissions, func(a answer) bool { return a.at().After(v.rounds[0].broken) })
}

func controls(l *load) map[string]time.Duration { return controlsUntil(l, time.Now()) }

// controlsUntil is the p99 of each path before a time.
func controlsUntil(l *load, until time.Time) map[string]time.Duration {
	submissions, others := l.snapshot()
	before := func(list []answer) []answer {
		return where(list, func(a answer) bool { return a.at().Before(until) })
	}
	out := map[string]time.Duration{"submit": p99(before(submissions))}
	for _, path := range []string{"/livez", "/readyz", "/openapi.json", readPath} {
		out[path] = p99(before(pathOf(others, path)))
	}
	return out
}

// tally counts outcomes.
func tally(list []answer) map[string]int {
	out := map[string]int{}
	for _, a := range list {
		out[a.outcome]++
	}
	return out
}
