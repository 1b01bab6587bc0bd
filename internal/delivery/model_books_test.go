package delivery_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// books are what happened in a world, and what of it was wrong. They know a
// lease by what the scripts answered: from its claim or renewal it holds for the
// length of a lease, unless it was settled or released.
type books struct {
	redis *miniredis.Miniredis
	began time.Time

	mu         sync.Mutex
	jobs       map[string]*job
	holds      map[string]*hold // by token
	holders    map[string]*hold // by task: the latest
	executions map[messages.Attempt][]*execution
	settled    map[messages.Attempt][]*messages.Result
	ends       map[messages.Attempt][]end // by run: their number is 0
	letters    map[messages.Attempt][]messages.DeadLetter
	wrong      []string
	diary      []string
}

// hold is a claim that was answered RUN or CANCELLED.
type hold struct {
	attempt messages.Attempt
	worker  *modelWorker
	renewed time.Time
	settled bool
	over    bool // settled or released
}

func (h *hold) live() bool { return !h.over && clock().Sub(h.renewed) < modelLease }

// clock is the time as the store tells it, in milliseconds.
func clock() time.Time { return time.Now().Truncate(time.Millisecond) }

// execution is a handler that ran.
type execution struct {
	number   int
	hold     *hold // nil when it was lost before it began
	finished bool  // and was not interrupted
}

type end struct {
	result *messages.Result
	at     time.Time
}

func newBooks(redis *miniredis.Miniredis) *books {
	return &books{
		redis: redis, began: time.Now(), jobs: map[string]*job{}, holds: map[string]*hold{}, holders: map[string]*hold{},
		executions: map[messages.Attempt][]*execution{}, settled: map[messages.Attempt][]*messages.Result{},
		ends: map[messages.Attempt][]end{}, letters: map[messages.Attempt][]messages.DeadLetter{},
	}
}

// note writes into the diary of a world, which a failure prints.
func (b *books) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(format, args...)
}

func (b *books) write(format string, args ...any) {
	b.diary = append(b.diary, fmt.Sprintf("%9.3f  ", time.Since(b.began).Seconds())+fmt.Sprintf(format, args...))
}

// blame needs the lock.
func (b *books) blame(id, format string, args ...any) {
	text := id + ": " + fmt.Sprintf(format, args...)
	b.wrong = append(b.wrong, text)
	b.write("WRONG %s", text)
}

func (b *books) failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.wrong) > 0
}

func (b *books) disturb(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs[id].disturbed = true
}

func (b *books) abandon(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs[id].abandoned = true
}

func runOf(a messages.Attempt) messages.Attempt {
	a.Number = 0
	return a
}

// observe is told what a script answered to a worker.
func (b *books) observe(m *modelWorker, script, key string, args []any, answer any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := messages.Attempt{ID: strings.TrimPrefix(key, messages.ResultKey("")), Run: args[0].(int), Number: args[1].(int)}
	token := ""
	if script != "done" {
		token = args[2].(string)
	}
	if values, ok := answer.([]any); ok {
		answer = values[0]
	}
	b.write("%s %s of %s run %d attempt %d: %v", m.name, script, a.ID, a.Run, a.Number, answer)
	if script == "claim" {
		if answer == "RUN" || answer == "CANCELLED" {
			b.claim(m, a, token)
		}
		return
	}
	if script == "done" || answer == "LOST" {
		return
	}
	h := b.holds[token]
	if h == nil || h.attempt != a || h.over || b.holders[a.ID] != h {
		b.blame(a.ID, "%s of run %d attempt %d by %s, which does not hold it", script, a.Run, a.Number, m.name)
		return
	}
	switch script {
	case "begin", "renew":
		h.renewed = clock()
	case "release":
		h.over = true
	case "settle":
		h.over, h.settled = true, true
		b.settle(a, args[4].([]byte))
	}
}

// claim is a claim that succeeds. It needs the lock.
func (b *books) claim(m *modelWorker, a messages.Attempt, token string) {
	h := b.holds[token]
	if h == nil {
		h = &hold{attempt: a, worker: m}
		b.holds[token] = h
	}
	if other := b.holders[a.ID]; other != nil && other != h && other.attempt == a && other.live() {
		b.blame(a.ID, "%s claims run %d attempt %d, which %s holds", m.name, a.Run, a.Number, other.worker.name)
	}
	h.renewed = clock()
	b.holders[a.ID] = h
}

func (b *books) settle(a messages.Attempt, record []byte) {
	r, err := messages.DecodeResult(record)
	if err != nil {
		b.blame(a.ID, "settled with a record that cannot be read: %v", err)
		return
	}
	b.settled[a] = append(b.settled[a], r)
	if r.State.Final() {
		b.finish(runOf(a), r)
	}
}

// finish is a run that ends. It needs the lock.
func (b *books) finish(run messages.Attempt, r *messages.Result) {
	b.ends[run] = append(b.ends[run], end{r, time.Now()})
	if n := len(b.ends[run]); n > 1 {
		b.blame(run.ID, "run %d ended %d times", run.Run, n)
	}
}

func (b *books) revoked(r *messages.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish(messages.Attempt{ID: r.TaskID, Run: r.Run}, r)
}

// taskField returns a field of a task record, in its short form or not: see
// pkg/results/lua/task.lua.
func (b *books) taskField(id, field string) string {
	key := "lovage:t:{" + messages.ResultKey(id) + "}"
	short, err := b.redis.Get(key)
	if err != nil {
		return b.redis.HGet(key, field)
	}
	names := []string{"lease", "run", "attempt", "owner"}
	values := strings.Split(short, " ")
	if len(values) == 3 {
		names = []string{"run", "attempt", "state"}
	}
	if i := slices.Index(names, field); i >= 0 {
		return values[i]
	}
	return ""
}

// enter is told of a handler that begins. It has to hold the lease, unless its
// worker was frozen since, and whoever began with this attempt before must have
// lost his.
func (b *books) enter(m *modelWorker, t *messages.Task) (*job, *execution) {
	froze, owner := m.froze(), b.taskField(t.ID, "owner")
	b.mu.Lock()
	defer b.mu.Unlock()
	j, a := b.jobs[t.ID], t.Attempt()
	e := &execution{number: len(b.executions[a]) + 1}
	b.write("%s runs %s run %d attempt %d, execution %d", m.name, a.ID, a.Run, a.Number, e.number)
	if h := b.holds[owner]; h != nil && h.worker == m && h.attempt == a && h.live() {
		e.hold = h
	} else if !froze {
		b.blame(a.ID, "run %d attempt %d runs on %s without a lease", a.Run, a.Number, m.name)
	}
	if n := len(b.ends[runOf(a)]); n > 0 && e.hold != nil {
		b.blame(a.ID, "run %d runs after its end", a.Run)
	}
	if now := time.Now(); now.Before(t.ETA) {
		b.blame(a.ID, "run %d attempt %d runs %v before it is due", a.Run, a.Number, t.ETA.Sub(now))
	}
	if !j.expires.IsZero() && j.expires.Before(b.began) && a.Run == 0 {
		b.blame(a.ID, "runs though it had expired before it was sent")
	}
	for _, other := range b.executions[a] {
		switch {
		case e.hold == nil, other.hold == nil:
		case other.hold == e.hold, other.hold.live(), other.hold.settled:
			b.blame(a.ID, "run %d attempt %d: execution %d runs beside or after %d", a.Run, a.Number, e.number, other.number)
		}
	}
	b.executions[a] = append(b.executions[a], e)
	return j, e
}

func (b *books) finished(e *execution) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.finished = true
}

// close compares what has come to rest with what should be.
func (b *books) close(letters []*messages.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range letters {
		d, _ := messages.DecodeDeadLetter(m)
		a := messages.Attempt{ID: m.MessageID, Run: d.Run}
		b.letters[a] = append(b.letters[a], d)
	}
	for _, j := range b.jobs {
		for run := range j.run + 1 {
			b.closeRun(j, messages.Attempt{ID: j.id, Run: run})
		}
		b.closeRecords(j)
	}
	for run := range b.letters {
		if len(b.ends[run]) == 0 {
			b.blame(run.ID, "dead letter of run %d, which has not ended", run.Run)
		}
	}
}

func (b *books) closeRun(j *job, run messages.Attempt) {
	if len(b.ends[run]) != 1 {
		b.blame(j.id, "run %d ended %d times", run.Run, len(b.ends[run]))
		return
	}
	last := b.ends[run][0]
	r := last.result
	if text := j.ends(r, last.at, b.lost(messages.Attempt{ID: j.id, Run: run.Run, Number: r.Retries}) >= 3); text != "" {
		b.blame(j.id, "%s", text)
	}
	for number := range r.Retries + 1 {
		a := messages.Attempt{ID: j.id, Run: run.Run, Number: number}
		if s := b.settled[a]; number < r.Retries && (len(s) != 1 || s[0].State != messages.Retry) {
			b.blame(j.id, "run %d attempt %d was settled %d times before the next", a.Run, number, len(s))
		}
		finished := 0
		for _, e := range b.executions[a] {
			if e.finished {
				finished++
			}
		}
		if !j.disturbed && finished > 1 {
			b.blame(j.id, "run %d attempt %d was done %d times though nothing disturbed it", a.Run, number, finished)
		}
		if s := b.settled[a]; len(s) == 1 && s[0].State == messages.Success && !slices.ContainsFunc(b.executions[a], func(e *execution) bool {
			return e.finished && fmt.Sprint(e.number) == string(s[0].Value)
		}) {
			b.blame(j.id, "run %d attempt %d has the value %s of no execution", a.Run, number, s[0].Value)
		}
	}
	b.closeLetters(j, run, r)
}

// lost is how many claims of an attempt were neither settled nor released.
func (b *books) lost(a messages.Attempt) int {
	n := 0
	for _, h := range b.holds {
		if h.attempt == a && !h.over {
			n++
		}
	}
	return n
}

func (b *books) closeLetters(j *job, run messages.Attempt, r *messages.Result) {
	letters := b.letters[run]
	want := 0
	if r.State == messages.Failure {
		want = 1
	}
	if len(letters) < want || len(letters) > want && (want == 0 || !j.disturbed) {
		b.blame(j.id, "run %d ended as %s and has %d dead letters", run.Run, r.State, len(letters))
	}
	for _, d := range letters {
		if d.Reason != r.Reason || d.Attempts != r.Retries+1 || d.Worker != r.Worker {
			b.blame(j.id, "run %d: dead letter says %q, attempts %d, worker %s; its record %q, %d, %s",
				run.Run, d.Reason, d.Attempts, d.Worker, r.Reason, r.Retries+1, r.Worker)
		}
	}
}

// closeRecords looks at what is left in the store.
func (b *books) closeRecords(j *job) {
	ends := b.ends[messages.Attempt{ID: j.id, Run: j.run}]
	if len(ends) == 0 {
		return // as was said
	}
	if state := b.taskField(j.id, "state"); state != string(ends[0].result.State) {
		b.blame(j.id, "task record in state %q", state)
	}
	for _, field := range []string{"owner", "lease", "counted"} {
		if value := b.taskField(j.id, field); value != "" {
			b.blame(j.id, "%s %q left", field, value)
		}
	}
	if next := b.taskField(j.id, "next"); next != "" && !j.abandoned {
		b.blame(j.id, "next %q left", next)
	}
	record, err := b.redis.Get(messages.ResultKey(j.id))
	if j.ignored {
		if err == nil {
			b.blame(j.id, "a record of an ignored result: %s", record)
		}
		return
	}
	if err != nil {
		b.blame(j.id, "no record: %v", err)
		return
	}
	if r, err := messages.DecodeResult([]byte(record)); err != nil || r.State != ends[0].result.State {
		b.blame(j.id, "record %s, error %v", record, err)
	}
}
