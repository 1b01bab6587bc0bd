//go:build outage

package outage_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const longestDelay = 20 * time.Second

// drawDelayed draws a delay of 1 ms to 20 s, as many of 1 to 10 ms as of 1 to
// 10 s.
func drawDelayed(rnd *rand.Rand, _, _ int) (s *submission, body map[string]any, query string) {
	delay := time.Duration(float64(time.Millisecond) * math.Pow(float64(longestDelay/time.Millisecond), rnd.Float64()))
	return &submission{
		id: messages.NewID(), kind: "delayed", ends: []messages.State{messages.Success}, due: time.Now().Add(delay),
	}, map[string]any{"kind": quickKind}, fmt.Sprintf("&countdown=%.6f", delay.Seconds())
}

// TestLedgerOfDelays closes the books of delayed tasks: none is lost, none runs
// twice, and none begins early, by the clock of its client and by its eta.
//
//nolint:paralleltest // it kills what it shares with nobody, and takes the whole machine
func TestLedgerOfDelays(t *testing.T) {
	t.Run("without faults", func(t *testing.T) {
		c := newChaos(t)
		c.mix = drawDelayed
		c.submit(ledgerTasks() / 4)
		c.close(t)
	})
	t.Run("with faults", func(t *testing.T) {
		c := newChaos(t)
		c.mix = drawDelayed
		c.submitWhileThingsBreak(ledgerTasks() / 4)
		c.close(t)
	})
}
