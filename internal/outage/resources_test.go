//go:build outage

package outage_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// moreFDs are the descriptors by which one moment differs from another.
	moreFDs = 8
	// poolSize is how many connections to Redis the gateway keeps at most,
	// and one for its notices.
	poolSize = 32 + 1
	// moreMemory is what a heap may keep of a bad time before the collector
	// has given it back.
	moreMemory = 64 << 20
	// moreGoroutines by which a gateway that has seen everything may differ
	// from a fresh one.
	moreGoroutines = 8
)

// usage is what a process holds.
type usage struct {
	files  int // without its connections to Redis, which are pooled
	pooled int
	memory int
}

// leaks waits until the gateway holds no more than at the beginning, and
// returns a complaint if it goes on doing so.
func (b *bench) leaks(t *testing.T) []string {
	t.Helper()
	now := usage{}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); pauseUntil(t.Context(), time.Now().Add(20*time.Millisecond)) {
		now = b.usage(t)
		if now.files <= b.baseline.files+moreFDs && now.pooled <= poolSize {
			return nil
		}
	}
	return []string{fmt.Sprintf("the gateway holds %d descriptors and %d connections to Redis, it was %d and %d", now.files, now.pooled, b.baseline.files, b.baseline.pooled)}
}

// resources compares the gateway that has seen all outages with itself before
// them, and its goroutines with those of a fresh one.
func (b *bench) resources(t *testing.T) {
	complaints := b.leaks(t)
	now := b.usage(t)
	t.Logf("before: %+v, after: %+v", b.baseline, now)
	if now.memory > b.baseline.memory+moreMemory {
		complaints = append(complaints, fmt.Sprintf("the gateway takes %d MB, it was %d MB", now.memory>>20, b.baseline.memory>>20))
	}
	fresh := b.startGateway(t)
	fresh.awaitWell()
	was, is := fresh.goroutines(), b.gateway.goroutines()
	t.Logf("goroutines: %d in a fresh gateway, %d in this one", was, is)
	if is > was+moreGoroutines {
		complaints = append(complaints, fmt.Sprintf("the gateway has %d goroutines, a fresh one %d", is, was))
	}
	require.Empty(t, complaints, strings.Join(complaints, "\n"))
}
