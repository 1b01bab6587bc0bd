package delivery_test

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// world is some workers, a broker and a Redis in one bubble.
type world struct {
	rng        *rand.Rand
	flaw       flaw
	log        *zap.Logger
	scripts    map[string]string
	guardAfter time.Duration

	redis   *miniredis.Miniredis
	turn    chan struct{} // of one round trip to the store at a time
	client  *redis.Client
	store   *results.Store // without trouble, as the gateway's
	post    *post
	books   *books
	workers []*modelWorker
	hired   int
	living  sync.WaitGroup
	death   string          // why the broker dead-letters
	again   map[string]bool // attempts that were run after their end
}

func newWorld(ctx context.Context, seed uint64, f flaw, scripts map[string]string, log *zap.Logger) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := &world{
		rng: rng, flaw: f, log: log, scripts: scripts, redis: miniredis.NewMiniRedis(), turn: make(chan struct{}, 1), again: map[string]bool{},
		guardAfter: pick(rng, 0, 5*time.Second), death: pick(rng, "delivery_limit", "maxlen"),
	}
	w.redis.ClockTTL(true)
	w.books = newBooks(w.redis)
	w.post = &post{books: w.books}
	w.client = w.connect()
	w.store = results.New(results.Options{Client: w.client, Lease: modelLease})
	w.hire(ctx, true)
	for range 3 {
		w.hire(ctx, false)
	}
	return w
}

// move does one random thing.
func (w *world) move(ctx context.Context) {
	moves := []struct {
		weight int
		do     func(context.Context)
	}{
		{9, w.submit},
		{3, w.duplicate},
		{2, w.cancel},
		{2, w.redrive},
		{1, func(context.Context) { w.reject() }},
		{2, func(context.Context) { w.post.lose(w.someone()) }},
		{5, func(context.Context) { w.trap() }},
		{1, func(context.Context) { w.someone().freeze(w.pause()) }},
		{1, func(context.Context) { w.someone().retire(pick(w.rng, 0, 3*time.Second, 30*time.Second)) }},
		{3, func(context.Context) { w.upset() }},
		{3, w.refill},
	}
	total := 0
	for _, m := range moves {
		total += m.weight
	}
	n := w.rng.IntN(total)
	for _, m := range moves {
		if n -= m.weight; n < 0 {
			m.do(ctx)
			return
		}
	}
}

// pause is a while that is shorter than a lease, or longer.
func (w *world) pause() time.Duration { return pick(w.rng, 3*time.Second, 3*modelLease) }

func (w *world) someone() *modelWorker { return pick(w.rng, w.workers...) }

func (w *world) submit(ctx context.Context) {
	j := drawJob(w.rng, len(w.books.jobs))
	t := j.task()
	j.disturbed = w.guardAfter > 0 // by a copy
	w.books.mu.Lock()
	w.books.jobs[j.id] = j
	w.books.write("submit %s", j)
	w.books.mu.Unlock()
	w.send(t, j.eta)
	if j.ignored {
		return
	}
	record, err := messages.EncodeResult(pending(t))
	if err != nil {
		panic(err)
	}
	w.client.SetNX(ctx, messages.ResultKey(j.id), record, time.Hour)
}

func pending(t *messages.Task) *messages.Result {
	return &messages.Result{
		TaskID: t.ID, State: messages.Pending, Name: t.Name, Queue: t.Queue, Run: t.Run,
		DateCreated: t.Created, ETA: t.ETA, Expires: t.Expires,
	}
}

func (w *world) send(t *messages.Task, delay time.Duration) {
	m, err := messages.Encode(t)
	if err != nil {
		panic(err)
	}
	w.post.put(m, delay)
}

// duplicate sends again what was sent at any time, as a publish in doubt and a
// hop between delays do.
func (w *world) duplicate(context.Context) {
	if len(w.post.sent) == 0 {
		return
	}
	m := pick(w.rng, w.post.sent...)
	w.books.note("duplicate of %s", m.MessageID)
	w.books.disturb(m.MessageID)
	w.post.put(m, pick(w.rng, 0, time.Second, 20*time.Second))
}

func (w *world) cancel(ctx context.Context) {
	if len(w.books.jobs) == 0 {
		return
	}
	j := w.job(w.rng.IntN(len(w.books.jobs)))
	r, state, err := w.store.Cancel(ctx, j.id)
	w.books.note("cancel %s: %s %v", j.id, state, err)
	if state == results.CancelRevoked {
		w.books.revoked(r)
	}
	if state != results.CancelEnded && err == nil {
		j.cancelled = true
		for _, m := range w.workers {
			select {
			case m.cancelled <- struct{}{}:
			default:
			}
		}
	}
}

// job returns the n-th job.
func (w *world) job(n int) *job {
	ids := make([]string, 0, len(w.books.jobs))
	for id := range w.books.jobs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return w.books.jobs[ids[n]]
}

// redrive sends a dead letter again.
func (w *world) redrive(ctx context.Context) {
	if len(w.post.letters) == 0 {
		return
	}
	i := w.rng.IntN(len(w.post.letters))
	m := w.post.letters[i]
	t, err := messages.Decode(m)
	if err != nil {
		panic(err)
	}
	t.Run++
	t.Retries, t.ETA, t.Expires = 0, time.Time{}, time.Time{}
	state, err := w.store.Restart(ctx, pending(t), t.IgnoreResult)
	w.books.note("redrive %s run %d: %s %v", t.ID, t.Run, state, err)
	if err != nil || state == results.RestartRunning {
		return
	}
	if state == results.Restarted {
		j := w.books.jobs[t.ID]
		if j.run == t.Run {
			j.disturbed = true // it is sent twice
		}
		j.run = t.Run
		w.send(t, 0)
	}
	w.post.letters = slices.Delete(w.post.letters, i, i+1)
	w.post.redriven = append(w.post.redriven, m)
}

// reject lets the broker dead-letter a message by itself.
func (w *world) reject() {
	if n := w.post.waiting(false); n > 0 {
		m := w.post.reject(w.rng.IntN(n))
		t, err := messages.Decode(m)
		if err != nil {
			panic(err)
		}
		w.books.note("the broker rejects %s run %d", t.ID, t.Run)
		w.books.jobs[t.ID].rejected[t.Run] = true
	}
}

// trap kills or freezes a worker at one of its next effects, before it or after.
func (w *world) trap() {
	m := w.someone()
	spring := m.kill
	if w.rng.IntN(2) == 0 {
		d := w.pause()
		spring = func() { m.freeze(d) }
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trap, m.spring = 1+w.rng.IntN(10), spring
}

// upset breaks the way to the store or to the broker, of one worker or of all.
func (w *world) upset() {
	which := w.workers
	if w.rng.IntN(2) == 0 {
		which = []*modelWorker{w.someone()}
	}
	store := w.rng.IntN(2) == 0
	s := spell{pick(w.rng, away, doubtful), time.Now().Add(w.pause())}
	if !store {
		s.trouble = pick(w.rng, away, doubtful, swallowed, late)
	}
	for _, m := range which {
		w.books.note("trouble %d of %s, store %t, until %v", s.trouble, m.name, store, s.until.Sub(w.books.began))
		m.mu.Lock()
		if store {
			m.storing = s
		} else {
			m.publishing = s
		}
		m.mu.Unlock()
	}
}

// refill replaces workers that have ended.
func (w *world) refill(ctx context.Context) {
	for i, m := range slices.Clone(w.workers) {
		if !m.alive() {
			w.hire(ctx, m.clerk)
			w.workers[i] = w.workers[len(w.workers)-1]
			w.workers = w.workers[:len(w.workers)-1]
		}
	}
}

// deliver lets the broker hand out most of what it can, and waits until all that
// happens at this moment has happened.
func (w *world) deliver() {
	w.post.mu.Lock()
	w.post.losesAcks = w.rng.IntN(2) == 0
	w.post.mu.Unlock()
	for range 3 {
		w.post.tick()
		var accept []func()
		for _, m := range w.workers {
			for n := w.post.waiting(m.clerk); n > 0 && m.takes() && w.rng.IntN(5) > 0; n-- {
				d := w.post.deliver(m, w.rng.IntN(n))
				accept = append(accept, func() { m.accept(d) })
			}
		}
		for _, a := range accept {
			a()
		}
		synctest.Wait()
	}
}

// rest lets everything come to an end, and reports whether it does.
func (w *world) rest(ctx context.Context) bool {
	w.books.note("come to rest")
	for _, m := range w.workers {
		m.mu.Lock()
		m.trap, m.storing, m.publishing = 0, spell{}, spell{}
		m.mu.Unlock()
	}
	defer w.living.Wait()
	for n := 0; n < 2000 && !w.books.failed(); n++ {
		if w.done() {
			for _, m := range w.workers {
				m.retire(time.Minute)
			}
			return true
		}
		w.refill(ctx)
		w.deliver()
		<-time.After(time.Second)
		synctest.Wait()
	}
	for _, m := range w.workers {
		m.kill()
	}
	return false
}

// done reports whether nothing is left to do.
func (w *world) done() bool {
	w.post.tick()
	for _, m := range w.workers {
		m.mu.Lock()
		n := len(m.visits)
		m.mu.Unlock()
		if n > 0 {
			return false
		}
	}
	return w.post.empty()
}

// play lets a world run for a while and returns its books.
func play(t *testing.T, seed uint64, f flaw, scripts map[string]string, log *zap.Logger) *books {
	t.Helper()
	var w *world
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w = newWorld(ctx, seed, f, scripts, log)
		defer w.redis.Close()
		defer func() { _ = w.client.Close() }()
		for n := 0; n < 40 && !w.books.failed(); n++ {
			w.move(ctx)
			w.deliver()
			<-time.After(pick(w.rng, time.Millisecond, 300*time.Millisecond, time.Second, 3*time.Second, 12*time.Second))
			synctest.Wait()
		}
		rests := w.rest(ctx)
		if w.books.failed() {
			return // what is left is not worth a look
		}
		if !rests {
			w.books.mu.Lock()
			w.books.blame("all", "no rest: %d ready, %d delayed, %d rejected, %d held",
				len(w.post.ready), len(w.post.delayed), len(w.post.rejected), len(w.post.held))
			w.books.mu.Unlock()
		}
		w.books.close(append(w.post.letters, w.post.redriven...))
	})
	return w.books
}

const seedVariable = "LOVAGE_MODEL_SEED"

// Workers that are killed, frozen, cut off and shut down at any point, a broker
// that delivers twice and loses acks, and a store that answers late or not at
// all: each task that was sent ends once, as its kind has to, and nothing is left.
// The seed repeats what is done, not how goroutines take turns.
func TestWorkersAgainstTheModel(t *testing.T) {
	t.Parallel()
	scripts := scriptNames(t)
	first, runs, log := uint64(rand.Uint32()), uint64(100), zap.NewNop()
	if seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		first, runs, log = seed, 1, zaptest.NewLogger(t)
	}
	t.Logf("seeds from %d", first)
	const parts = 4 // side by side
	for part := range min(runs, parts) {
		t.Run(strconv.FormatUint(part, 10), func(t *testing.T) {
			t.Parallel()
			for seed := first + part; seed < first+runs; seed += parts {
				b := play(t, seed, flawless, scripts, log)
				require.Emptyf(t, b.wrong, "%s=%d repeats it\n%s", seedVariable, seed, strings.Join(b.diary, "\n"))
			}
		})
	}
}
