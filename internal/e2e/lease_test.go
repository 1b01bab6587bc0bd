package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// takeover is a queue with two workers. The first is frozen while it runs tasks,
// the second takes them over, the first goes on.
type takeover struct {
	*stack
	queue  string
	victim string // who is killed: "first", "second" or nobody
	step   string // and when
	// wants is what the handlers of each task do, and where.
	wants []string

	effects string
	first   *process
	second  *process
	ids     []string
}

// The steps after which a worker is killed.
const (
	whileFrozen = "while the first is frozen"
	afterThaw   = "when the first goes on"
	afterEnd    = "when the tasks are done"
)

func takeovers() []*takeover {
	carriedOn := []string{"start first", "start second", "interrupted first", "ok second"}
	takenBack := []string{"start first", "start second", "interrupted first", "start first", "ok first"}
	return []*takeover{
		{wants: carriedOn},
		{victim: "first", step: whileFrozen, wants: []string{"start first", "start second", "ok second"}},
		{victim: "second", step: whileFrozen, wants: takenBack},
		{victim: "first", step: afterThaw, wants: carriedOn},
		{victim: "second", step: afterThaw, wants: takenBack},
		{victim: "first", step: afterEnd, wants: carriedOn},
		{victim: "second", step: afterEnd, wants: carriedOn},
	}
}

// A worker that was frozen beyond its lease finds its tasks with another.
// Whichever of the two is killed and when: every task ends once and none is
// lost. All variants go through the steps together, each with a queue of its own.
//
//nolint:tparallel // its subtests look at what is over
func TestTasksOfAFrozenWorkerEndOnceWhoeverIsKilled(t *testing.T) {
	t.Parallel()
	const lease, tasks = 3 * time.Second, 3
	s := newStack(t)
	all := takeovers()
	for i, k := range all {
		k.stack, k.queue, k.effects = s, "takeover-"+strconv.Itoa(i), filepath.Join(t.TempDir(), "effects")
		k.first = k.worker(lease)
		for range tasks {
			k.ids = append(k.ids, k.act(k.queue, map[string]any{"kind": "held"})) // until they are released
		}
	}
	for _, k := range all {
		k.awaitEffects("start first", tasks)
		k.second = k.worker(lease)
	}
	for _, k := range all {
		connection := k.consumes(k.first)
		k.first.signal(syscall.SIGSTOP)
		s.manage(http.MethodDelete, "/api/connections/"+url.PathEscape(connection), "") // as the broker does with who is silent for long enough
	}
	for _, k := range all {
		k.awaitEffects("start second", tasks)
		require.GreaterOrEqual(t, k.count(k.second, `lovage_claims_total{verdict="busy"}`), tasks, "the lease had to run out first")
		k.killAfter(whileFrozen)
	}
	for _, k := range all {
		k.first.signal(syscall.SIGCONT)
	}
	for _, k := range all {
		if k.victim != "first" || k.step != whileFrozen {
			k.awaitEffects("interrupted first", tasks)
			k.eventually(func() bool { return k.count(k.first, "lovage_leases_lost_total") == tasks }, "the first knows")
		}
		k.killAfter(afterThaw)
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(k.effects), "released"), nil, 0o600))
	}
	for _, k := range all {
		for _, id := range k.ids {
			require.Equal(t, 0, k.await(id, "SUCCESS").Retries, k.String())
		}
		k.killAfter(afterEnd)
	}
	require.Never(t, func() bool {
		for _, k := range all {
			if len(k.lines()) != tasks*len(k.wants) {
				return true
			}
		}
		return false
	}, lease+time.Second, 100*time.Millisecond, "nothing comes again")
	for _, k := range all {
		t.Run(k.String(), func(t *testing.T) { k.close(t) })
	}
}

func (k *takeover) String() string {
	if k.victim == "" {
		return "nobody is killed"
	}
	return "the " + k.victim + " is killed " + k.step
}

func (k *takeover) worker(lease time.Duration) *process {
	k.t.Helper()
	p := k.start("ledgerworker", "LOVAGE_QUEUE="+k.queue, "LOVAGE_LEDGER_EFFECTS="+k.effects, "LOVAGE_LEASE="+lease.String())
	p.await("consumer connected")
	return p
}

// act submits a task of a ledgerworker and returns its id.
func (s *stack) act(queue string, input map[string]any) string {
	s.t.Helper()
	status, body := s.do(http.MethodPost, "/v1/tasks", map[string]any{
		"task": "ledger.act", "kwargs": input, "options": map[string]any{"queue": queue},
	}, patient())
	require.Equal(s.t, http.StatusAccepted, status, "%s", body)
	var v view
	require.NoError(s.t, json.Unmarshal(body, &v))
	return v.TaskID
}

func (k *takeover) killAfter(step string) {
	k.t.Helper()
	if k.step != step {
		return
	}
	victim := map[string]*process{"first": k.first, "second": k.second}[k.victim]
	victim.signal(syscall.SIGKILL)
	<-victim.ended
}

// effect is a line that a handler of a ledgerworker has written.
type effect struct {
	what, id     string
	attempt, pid int
}

// effects are what the handlers have written to a file so far.
func effects(tb testing.TB, path string) (all []effect) {
	tb.Helper()
	f, err := os.Open(path)
	require.NoError(tb, err)
	defer func() { _ = f.Close() }()
	for in := bufio.NewScanner(f); in.Scan(); {
		var e effect
		_, err := fmt.Sscan(in.Text(), &e.what, &e.id, &e.attempt, &e.pid)
		require.NoError(tb, err, in.Text())
		all = append(all, e)
	}
	return all
}

// lines are what the handlers have written so far, and who of the two they are.
func (k *takeover) lines() []effect {
	k.t.Helper()
	all := effects(k.t, k.effects)
	for i := range all {
		who := " second"
		if all[i].pid == k.first.cmd.Process.Pid {
			who = " first"
		}
		all[i].what += who
	}
	return all
}

func (k *takeover) awaitEffects(what string, n int) {
	k.t.Helper()
	k.eventually(func() bool {
		found := 0
		for _, e := range k.lines() {
			if e.what == what {
				found++
			}
		}
		return found >= n
	}, "%s: %d of %q", k, n, what)
}

// close checks what the handlers did, and that the broker has nothing left.
func (k *takeover) close(t *testing.T) {
	t.Helper()
	did := map[string][]string{}
	for _, e := range k.lines() {
		did[e.id] = append(did[e.id], e.what)
	}
	require.Len(t, did, len(k.ids))
	for _, id := range k.ids {
		require.ElementsMatch(t, k.wants, did[id])
	}
	for name, p := range map[string]*process{"first": k.first, "second": k.second} {
		if name != k.victim {
			p.signal(syscall.SIGTERM) // what is not acked would be ready after it
			require.Equal(t, 0, p.exit())
		}
	}
	ch := k.channel()
	for _, queue := range []string{k.queue, k.queue + ".dead"} {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		require.NoError(t, err)
		require.Zero(t, q.Messages, queue)
	}
}

// consumes returns the broker's name of the connection by which a worker consumes.
func (s *stack) consumes(p *process) (connection string) {
	s.t.Helper()
	at, err := url.Parse(s.amqp)
	require.NoError(s.t, err)
	vhost := url.PathEscape(strings.TrimPrefix(at.Path, "/"))
	worker := fmt.Sprintf("-%d-", p.cmd.Process.Pid)
	s.eventually(func() bool {
		var connections []struct {
			Name  string
			Given string `json:"user_provided_name"`
		}
		require.NoError(s.t, json.Unmarshal(s.manage(http.MethodGet, "/api/vhosts/"+vhost+"/connections", ""), &connections))
		for _, c := range connections {
			if strings.Contains(c.Given, worker) && strings.HasSuffix(c.Given, " consumer") {
				connection = c.Name
				return true
			}
		}
		return false
	}, "the broker knows the connection")
	return connection
}

// manage calls the management API of the broker that the tests share.
func (s *stack) manage(method, path, body string) []byte {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, devstack.SharedBroker(s.t).Management+path, strings.NewReader(body))
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	var text json.RawMessage
	if res.StatusCode == http.StatusOK {
		require.NoError(s.t, json.NewDecoder(res.Body).Decode(&text))
	}
	require.Less(s.t, res.StatusCode, http.StatusMultipleChoices, "%s %s: %s", method, path, res.Status)
	return text
}
