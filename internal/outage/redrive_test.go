//go:build outage

package outage_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	brokenKind = "broken" // fails until it is mended, see ledgerworker
	// redriveSeconds are enough for the gateway to die several times meanwhile.
	redriveSeconds = 10
)

func drawBroken(*rand.Rand, int, int) (s *submission, body map[string]any, query string) {
	return &submission{id: messages.NewID(), kind: brokenKind, ends: []messages.State{messages.Failure}},
		map[string]any{"kind": brokenKind}, "&max_retries=0"
}

// TestLedgerOfRedrives sends dead letters again while the gateway that does it,
// and RabbitMQ, are killed: in the end each task has run once more, no less and
// no more.
//
//nolint:paralleltest // it kills what it shares with nobody, and takes the whole machine
func TestLedgerOfRedrives(t *testing.T) {
	c := newChaos(t)
	c.mix = drawBroken
	c.submit(ledgerTasks() / 10)
	require.Eventually(t, func() bool { return c.allEnded(t) }, atRestAfter, time.Second)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(c.effects), "mended"), nil, 0o600))

	done := make(chan struct{})
	var breaking sync.WaitGroup
	killed := 0
	breaking.Go(func() { killed = c.killGateways(done) })
	redrive := fmt.Sprintf("/v1/queues/%s/redrive?all=true&rate=%d", actQueue, 1+len(c.tasks)/redriveSeconds)
	redriven, begun := 0, time.Now()
	for left := true; left; {
		require.Less(t, time.Since(begun), atRestAfter, "it must come to an end")
		status, body := c.ask(http.MethodPost, redrive, nil)
		var d struct {
			Matched, Redriven int
			More              bool
		}
		if status != http.StatusOK || json.Unmarshal(body, &d) != nil {
			<-time.After(50 * time.Millisecond)
			continue
		}
		redriven += d.Redriven
		left = d.Matched > 0 || d.More
	}
	close(done)
	breaking.Wait()

	require.Eventually(t, func() bool { return c.atRest(t) && c.allEnded(t) }, atRestAfter, time.Second)
	require.Empty(t, c.deadLetters(t), "all were sent again")
	runs := c.executions(t)
	for _, s := range c.tasks {
		var ends []string
		for _, e := range runs[s.id] {
			if e.outcome != "interrupted" { // by the loss of RabbitMQ
				ends = append(ends, e.outcome)
			}
		}
		require.Equal(t, "failed ok", strings.Join(ends, " "), "task %s", s.id)
	}
	t.Logf("%d dead letters sent again in %v; answers told of %d; RabbitMQ and the gateway were killed %d times",
		len(c.tasks), time.Since(begun).Round(time.Millisecond), redriven, killed)
	require.Positive(t, killed)
}

// killGateways kills the gateway until done, and RabbitMQ now and then, and says
// how often.
func (c *chaos) killGateways(done <-chan struct{}) (n int) {
	rnd := rand.New(rand.NewPCG(c.seed, clients))
	for {
		select {
		case <-done:
			return n
		case <-time.After(time.Duration(500+rnd.IntN(2000)) * time.Millisecond):
		}
		n++
		c.mu.Lock()
		g := c.gateway
		c.mu.Unlock()
		kill := func() error { return ended(g.Kill()) }
		if rnd.IntN(8) == 0 {
			kill = func() error { return c.killBroker(c.t.Context(), 0) }
		}
		if err := kill(); err != nil {
			c.t.Error(err)
			return n
		}
	}
}
