//go:build outage

package outage_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
)

const (
	actName  = "ledger.act"
	actQueue = "ledger"
	actors   = 3 // workers
	clients  = 16
	// submitGap is how long each client waits between two submissions, on average,
	// and quickGap how long when there are many to come.
	submitGap = 30 * time.Millisecond
	quickGap  = 2 * time.Millisecond
	// faultPause is the longest time between two faults, rarePause the same when
	// there are many tasks.
	faultPause = 2500 * time.Millisecond
	rarePause  = 4 * faultPause
	// many is from when on a ledger hurries, and has no more killers for it.
	many = 100_000
	// lasting is how long a fault lasts at most. Leases are of 2 s.
	lasting = 5 * time.Second
	// atRestAfter is when everything must have come to its end, and a bit later for
	// each task.
	atRestAfter     = 3 * time.Minute
	atRestAfterEach = time.Millisecond
	// calmFor is for how long it must have been so.
	calmFor = 7 * time.Second
)

// kinds are the tasks of a mix, and how many of a thousand each are. The rest
// are quick.
var kinds = []struct { //nolint:gochecknoglobals // a table
	name  string
	share int
	input map[string]any
	query string
	// ends are the states that it may end in.
	ends []messages.State
}{
	{"slow", 60, map[string]any{"kind": "slow", "millis": 250}, "", []messages.State{messages.Success}},
	{"fails once", 30, map[string]any{"kind": "flaky", "failures": 1}, "", []messages.State{messages.Success}},
	{"fails three times", 10, map[string]any{"kind": "flaky", "failures": 3}, "", []messages.State{messages.Success}},
	{"always fails", 10, map[string]any{"kind": "failing"}, "", []messages.State{messages.Failure}},
	{"panics", 10, map[string]any{"kind": "panicking"}, "", []messages.State{messages.Failure}},
	{"delayed", 40, map[string]any{"kind": "quick"}, "&countdown=3.5", []messages.State{messages.Success}},
	{"expires when it is due", 10, map[string]any{"kind": "quick"}, "&countdown=2&expires=2.001", []messages.State{messages.Revoked, messages.Success}},
	{"cancelled before it is due", 10, map[string]any{"kind": "quick"}, "&countdown=20", []messages.State{messages.Revoked}},
	{"cancelled when it runs", 2, map[string]any{"kind": "slow", "millis": 20_000}, "", []messages.State{messages.Revoked, messages.Success}},
	{"result ignored", 10, map[string]any{"kind": "quick"}, "&ignore_result=true", nil},
}

const (
	quickKind = "quick"
	killer    = "kills its worker once"
	poison    = "always kills its worker"
)

// submission is one task as its client knows it.
type submission struct {
	id, kind string
	ends     []messages.State
	due      time.Time // never before
	accepted bool      // else nobody knows
	cancel   int       // the answer to its cancellation
}

// execution is one start of a handler, and its end as far as it came.
type execution struct {
	attempt, pid int
	start, end   time.Time
	outcome      string // empty when it did not end
}

// chaos is one stack of everything, of which parts die and come back.
type chaos struct {
	*stack
	seed    uint64
	port    *devstack.Port
	url     string
	http    *http.Client
	effects string

	// stopping is set when what dies has to stay dead.
	stopping atomic.Bool
	keepers  sync.WaitGroup

	mu        sync.Mutex
	workers   [actors]*program
	gateway   *program
	logs      []string
	disturbed map[int]string // pids that were killed or frozen

	// mix draws the next task, with its body and more of its query.
	mix   func(rnd *rand.Rand, done, of int) (s *submission, body map[string]any, query string)
	tasks []*submission
}

// TestLedger submits a mix of tasks while everything is killed and frozen at
// random, and closes the books.
//
//nolint:paralleltest // it kills what it shares with nobody, and takes the whole machine
func TestLedger(t *testing.T) {
	t.Run("without faults", func(t *testing.T) {
		c := newChaos(t)
		c.submit(1000)
		c.close(t)
	})
	t.Run("with faults", func(t *testing.T) {
		c := newChaos(t)
		c.submitWhileThingsBreak(ledgerTasks())
		c.close(t)
	})
}

func (c *chaos) submitWhileThingsBreak(n int) {
	done := make(chan struct{})
	var breaking sync.WaitGroup
	pause := faultPause
	if n > many {
		pause = rarePause
	}
	breaking.Go(func() { c.breakThings(done, pause) })
	c.submit(n)
	close(done)
	breaking.Wait()
}

// ledgerTasks is how many tasks the ledger holds.
func ledgerTasks() int {
	if n, err := strconv.Atoi(os.Getenv("LOVAGE_LEDGER_TASKS")); err == nil {
		return n
	}
	return 20_000
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("LOVAGE_LEDGER_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("LOVAGE_LEDGER_SEED=%d", seed)
	port, err := devstack.ReservePort(t.Context(), 0)
	require.NoError(t, err)
	t.Cleanup(port.Release)
	c := &chaos{
		stack: &stack{t: t, broker: devstack.RabbitMQ(t), redis: devstack.RedisServer(t)},
		mix:   drawAny, seed: seed, port: port, url: "http://" + port.Address(), disturbed: map[int]string{},
		http:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * clients}},
		effects: filepath.Join(t.TempDir(), "effects"),
	}
	t.Cleanup(c.http.CloseIdleConnections)
	client, err := results.Open(c.redis.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	c.store = results.New(results.Options{Client: client})
	for i := range actors {
		c.keep(func() *program { return c.startActor(i) })
	}
	c.keep(c.startOwnGateway)
	t.Cleanup(func() {
		c.stopping.Store(true)
		c.keepers.Wait()
	})
	require.Eventually(t, func() bool {
		status, body := c.ask(http.MethodGet, "/readyz", nil)
		var h health
		return status == http.StatusOK && json.Unmarshal(body, &h) == nil && h.RabbitMQ == "up" && h.Redis == "up" && h.Tasks > 0
	}, patience, 20*time.Millisecond)
	return c
}

// ask sends one request; the status is 0 when there was no answer.
func (c *chaos) ask(method, path string, body any) (int, []byte) {
	var in io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		in = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), hung)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, in)
	if err != nil {
		panic(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, text
}

// submit submits tasks until so many are accepted.
func (c *chaos) submit(n int) {
	gap := submitGap
	if n > many {
		gap = quickGap
	}
	var accepted atomic.Int64
	var all sync.WaitGroup
	for client := range clients {
		rnd := rand.New(rand.NewPCG(c.seed, uint64(client)))
		all.Go(func() {
			for accepted.Load() < int64(n) {
				s, body, query := c.mix(rnd, int(accepted.Load()), n)
				status, _ := c.ask(http.MethodPost, "/v1/tasks/"+actName+"?task_id="+s.id+query, body)
				s.accepted = status == http.StatusAccepted
				if s.accepted {
					accepted.Add(1)
				}
				if s.accepted || status == 0 || status == http.StatusGatewayTimeout {
					c.mu.Lock()
					c.tasks = append(c.tasks, s)
					c.mu.Unlock()
					if strings.HasPrefix(s.kind, "cancelled") {
						all.Go(func() { c.cancel(s) })
					}
				}
				<-time.After(time.Duration(rnd.Int64N(int64(2 * gap))))
			}
		})
	}
	all.Wait()
}

// drawAny draws from the table above. Few kill their workers, at times that are
// spread over the whole ledger.
func drawAny(rnd *rand.Rand, done, of int) (s *submission, body map[string]any, query string) {
	s = &submission{id: messages.NewID(), kind: quickKind, ends: []messages.State{messages.Success}}
	body = map[string]any{"kind": quickKind}
	at := rnd.IntN(1000)
	for _, k := range kinds {
		if at < k.share {
			s.kind, s.ends, body, query = k.name, k.ends, k.input, k.query
			if k.name == "delayed" {
				s.due = time.Now().Add(3500 * time.Millisecond)
			}
			return s, body, query
		}
		at -= k.share
	}
	if of <= 1000 || done > of*9/10 {
		return s, body, query
	}
	switch rnd.IntN(4000 * max(1, of/many)) {
	case 0:
		s.kind, s.ends, body = poison, []messages.State{messages.Failure}, map[string]any{"kind": "poison"}
	case 1, 2:
		s.kind, body = killer, map[string]any{"kind": "killer"}
	}
	return s, body, query
}

// cancel cancels a task, however often it must ask.
func (c *chaos) cancel(s *submission) {
	<-time.After(500 * time.Millisecond)
	for range 100 {
		s.cancel, _ = c.ask(http.MethodPost, "/v1/tasks/"+s.id+"/cancel", nil)
		switch s.cancel {
		case http.StatusOK, http.StatusAccepted, http.StatusConflict, http.StatusGone:
			return
		}
		<-time.After(200 * time.Millisecond)
	}
}

// close waits until everything has come to its end, and compares what the
// clients were told, what the handlers did, what the records say and what lies
// in the dead letters.
func (c *chaos) close(t *testing.T) {
	t.Helper()
	ids := make([]string, len(c.tasks))
	for i, s := range c.tasks {
		ids[i] = s.id
	}
	atRestAfter := atRestAfter + time.Duration(len(ids))*atRestAfterEach
	// The broker's statistics are up to five seconds old, and after a restart
	// there are none at first.
	for begun, calm := time.Now(), time.Now(); time.Since(begun) < atRestAfter && time.Since(calm) < calmFor; {
		<-time.After(time.Second)
		if !c.atRest(t) || !c.allEnded(t) {
			calm = time.Now()
		}
		if time.Since(begun) > atRestAfter/3 {
			depths := c.depths(t)
			maps.DeleteFunc(depths, func(_ string, n int) bool { return n == 0 })
			t.Logf("after %v: messages %v, all have ended: %t", time.Since(begun).Round(time.Second), depths, c.allEnded(t))
		}
	}
	dead := c.deadLetters(t)
	// The broker's statistics are some seconds old.
	for end := time.Now().Add(patience); time.Now().Before(end) && slices.Max(slices.Collect(maps.Values(c.depths(t)))) > 0; {
		<-time.After(time.Second)
	}
	b := books{chaos: c, t: t, records: records(t, c.store, ids), executions: c.executions(t), dead: dead, lost: c.outcomesDropped(t)}
	b.check()
	for queue, n := range c.depths(t) {
		if n > 0 {
			b.complain("queue %s holds %d messages", queue, n)
		}
	}
	workers, err := c.store.Workers(t.Context())
	require.NoError(t, err)
	for _, w := range workers {
		if w.Busy > 0 && time.Since(w.LastSeen) < time.Second {
			b.complain("worker %s has %d busy slots", w.Name, w.Busy)
		}
	}
	t.Log("\n" + b.String())
	require.Empty(t, b.complaints, strings.Join(b.complaints[:min(20, len(b.complaints))], "\n"))
}

// atRest reports whether nothing is queued, delayed or unsettled.
func (c *chaos) atRest(t *testing.T) bool {
	for queue, n := range c.depths(t) {
		if !strings.HasSuffix(queue, ".dead") && n > 0 {
			return false
		}
	}
	return true
}

// allEnded reports whether every accepted task of which there is to be a record
// has a final one.
func (c *chaos) allEnded(t *testing.T) bool {
	t.Helper()
	var ids []string
	for _, s := range c.tasks {
		if s.accepted && s.ends != nil {
			ids = append(ids, s.id)
		}
	}
	for _, r := range records(t, c.store, ids) {
		if r == nil || !r.State.Final() {
			return false
		}
	}
	return true
}

// depths are the messages of every queue, the unsettled ones included.
func (c *chaos) depths(t *testing.T) map[string]int {
	t.Helper()
	out, err := c.broker.Ctl(t.Context(), "--quiet", "--no-table-headers", "list_queues", "name", "messages")
	if err != nil {
		return map[string]int{err.Error(): 1}
	}
	depths := map[string]int{}
	for line := range strings.Lines(out) {
		if name, n, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			depths[name], _ = strconv.Atoi(n)
		}
	}
	return depths
}

// executions reads what the handlers wrote down.
func (c *chaos) executions(t *testing.T) map[string][]*execution {
	t.Helper()
	f, err := os.Open(c.effects)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	out := map[string][]*execution{}
	for in := bufio.NewScanner(f); in.Scan(); {
		var what, id string
		var e execution
		var at int64
		_, err := fmt.Sscan(in.Text(), &what, &id, &e.attempt, &e.pid, &at)
		require.NoError(t, err, in.Text())
		if what == "start" {
			e.start = time.UnixMicro(at)
			out[id] = append(out[id], &e)
			continue
		}
		for _, begun := range slices.Backward(out[id]) {
			if begun.attempt == e.attempt && begun.pid == e.pid && begun.outcome == "" {
				begun.outcome, begun.end = what, time.UnixMicro(at)
				break
			}
		}
	}
	return out
}

// deadLetters empties the queue of the dead letters: their ids, and how often
// each is there.
func (c *chaos) deadLetters(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	letters := rabbitmq.NewDeadLetters(rabbitmq.Options{URLs: []string{c.broker.URL()}, Name: "ledger", Log: zap.NewNop()})
	require.NoError(t, letters.Pass(t.Context(), actQueue, func(_ context.Context, m *messages.Message) (rabbitmq.Verdict, error) {
		out[m.MessageID]++
		return rabbitmq.Remove, nil
	}))
	return out
}

// outcomesDropped are the tasks whose worker says that it has lost them.
func (c *chaos) outcomesDropped(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, log := range c.logs {
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		for line := range bytes.Lines(text) {
			var said struct {
				Msg    string
				TaskID string `json:"task_id"`
			}
			if json.Unmarshal(line, &said) == nil && strings.HasPrefix(said.Msg, "outcome dropped") {
				out[said.TaskID] = true
			}
		}
	}
	return out
}
