package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// countOne counts a task that does nothing, from its start to its end.
func countOne(tb testing.TB) (count func(), m metrics) {
	tb.Helper()
	m = newMetrics(prometheus.NewRegistry(), []string{"noop"})
	t := &task{Task: &messages.Task{Name: "noop", Created: time.Now()}, claim: messages.Claim{Starts: 1}}
	handle := func(context.Context, *messages.Task, ProgressFunc) Outcome { return Outcome{State: messages.Success} }
	return func() {
		o := m.of(t.Name).run(tb.Context(), t, handle, nil)
		m.of(t.Name).settled(o.State)
	}, m
}

func TestCountingATaskTakesNoMemory(t *testing.T) { //nolint:paralleltest // allocations of others would count
	count, m := countOne(t)
	require.Zero(t, testing.AllocsPerRun(1000, count))
	require.InDelta(t, 1001, testutil.ToFloat64(m.of("noop").finished[messages.Success]), 0)
	require.InDelta(t, 1001, testutil.ToFloat64(m.of("noop").started), 0)
	require.Zero(t, testutil.ToFloat64(m.of("noop").running))
}

func BenchmarkCountATask(b *testing.B) {
	count, _ := countOne(b)
	b.ReportAllocs()
	for b.Loop() {
		count()
	}
}
