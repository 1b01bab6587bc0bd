//go:build outage

package outage_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// ledger holds what the clients of one load were told about their tasks, and
// what became of those.
type ledger struct {
	accepted, unconfirmed, refused []string // ids
	// ranUnconfirmed is how many of the unconfirmed ran after all.
	ranUnconfirmed int
	complaints     []string
}

func newLedger(submissions []answer) *ledger {
	led := &ledger{}
	for _, a := range submissions {
		switch {
		case a.outcome == accepted:
			led.accepted = append(led.accepted, a.id)
		case a.outcome == unconfirmed:
			led.unconfirmed = append(led.unconfirmed, a.id)
		case strings.HasPrefix(a.outcome, "503 "):
			led.refused = append(led.refused, a.id)
		}
	}
	return led
}

// pending is how many of the accepted tasks have not run yet.
func (led *ledger) pending(e *executions) (n int) {
	for _, count := range e.counts(led.accepted) {
		if count == 0 {
			n++
		}
	}
	return n
}

// settle compares what was told with what happened.
func (led *ledger) settle(t *testing.T, e *executions, store *results.Store) {
	t.Helper()
	led.complaints, led.ranUnconfirmed = nil, 0
	ran := e.counts(led.accepted)
	for _, id := range led.accepted {
		led.expect(ran[id] == 1, "accepted task %s ran %d times", id, ran[id])
	}
	ran = e.counts(led.refused)
	for _, id := range led.refused {
		led.expect(ran[id] == 0, "refused task %s ran %d times", id, ran[id])
	}
	ran = e.counts(led.unconfirmed)
	finished := append([]string(nil), led.accepted...)
	unknown := append([]string(nil), led.refused...)
	for _, id := range led.unconfirmed {
		led.expect(ran[id] <= 1, "unconfirmed task %s ran %d times", id, ran[id])
		if ran[id] == 0 {
			unknown = append(unknown, id)
			continue
		}
		led.ranUnconfirmed++
		finished = append(finished, id)
	}
	for id, r := range records(t, store, finished) {
		led.expect(r != nil && r.State == messages.Success, "task %s ran and its record says %+v", id, r)
	}
	for id, r := range records(t, store, unknown) {
		led.expect(r == nil, "task %s did not run and its record says %+v", id, r)
	}
}

func (led *ledger) expect(ok bool, format string, args ...any) {
	if !ok {
		led.complaints = append(led.complaints, fmt.Sprintf(format, args...))
	}
}

// records reads the records of the tasks; nil where there is none.
func records(t *testing.T, store *results.Store, ids []string) map[string]*messages.Result {
	t.Helper()
	const atOnce = 16
	work := make(chan string)
	out := make(map[string]*messages.Result, len(ids))
	var mu sync.Mutex
	var reading sync.WaitGroup
	var failed error
	for range atOnce {
		reading.Go(func() {
			for id := range work {
				r, err := store.Get(t.Context(), id)
				mu.Lock()
				out[id] = r
				if err != nil && !errors.Is(err, messages.ErrNotFound) {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		work <- id
	}
	close(work)
	reading.Wait()
	require.NoError(t, failed)
	return out
}
