package e2e_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// A worker that has worked off many tasks, and lost its connections many times,
// holds no more than it did at half of them.
func TestAWorkersMemoryStaysWhileItsConnectionsBreak(t *testing.T) {
	t.Parallel()
	const (
		rounds = 10
		// moreMemory is 560 bytes for each task of half of them, and 17 in the long
		// form.
		moreMemory     = 8 << 20
		moreGoroutines = 4
	)
	tasks := 30_000
	if nightly() {
		tasks = 1_000_000
	}
	broker := devstack.RabbitMQ(t)
	s := &stack{t: t, amqp: broker.URL(), redis: devstack.Redis(t)}
	p := s.start("ledgerworker", "LOVAGE_QUEUE=soak", "LOVAGE_LEDGER_EFFECTS=/dev/null")
	p.await("consumer connected")
	metrics := "http://" + p.await("worker listens")["address"].(string)
	read := func(name string) float64 {
		t.Helper()
		v, err := strconv.ParseFloat(s.metric(metrics, name), 64)
		require.NoError(t, err)
		return v
	}
	ran := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return read(`lovage_claims_total{verdict="run"}`) >= float64(n) }, 10*time.Minute, 50*time.Millisecond)
	}

	publisher := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: rabbitmq.Options{
		URLs: []string{s.amqp}, Name: t.Name(), Log: zap.NewNop(),
	}})
	ctx, stop := context.WithCancel(t.Context())
	var running errgroup.Group
	running.Go(func() error { return publisher.Run(ctx) })
	defer func() {
		stop()
		require.NoError(t, running.Wait())
	}()

	var memory, goroutines []float64
	for round := 1; round <= rounds; round++ {
		publish(t, publisher, "soak", tasks/rounds/2)
		ran(tasks/rounds*(round-1) + tasks/rounds/4)
		_, err := broker.Ctl(t.Context(), "close_all_connections", "soak")
		require.NoError(t, err)
		publish(t, publisher, "soak", tasks/rounds/2)
		ran(tasks / rounds * round)
		var resident []float64
		for range 9 {
			resident = append(resident, read("process_resident_memory_bytes"))
			<-time.After(50 * time.Millisecond)
		}
		memory = append(memory, median(resident))
		goroutines = append(goroutines, read("go_goroutines"))
	}
	t.Logf("resident memory in MB: %.1f", megabytes(memory))
	t.Logf("goroutines: %.0f", goroutines)
	first, second := memory[2:rounds/2], memory[rounds/2+2:]
	require.LessOrEqual(t, median(second), median(first)+moreMemory)
	require.LessOrEqual(t, median(goroutines[rounds/2:]), median(goroutines[:rounds/2])+moreGoroutines)
	require.GreaterOrEqual(t, read("lovage_broker_connections_total"), float64(rounds))
}

func megabytes(bytes []float64) (all []float64) {
	for _, b := range bytes {
		all = append(all, b/(1<<20))
	}
	return all
}

// publish sends tasks that do nothing, and again under the same id what no
// connection was there for.
func publish(t *testing.T, p *rabbitmq.Publisher, queue string, n int) {
	t.Helper()
	var all errgroup.Group
	all.SetLimit(64)
	for range n {
		all.Go(func() error {
			m, err := messages.Encode(&messages.Task{
				ID: messages.NewID(), Name: "ledger.act", Queue: queue, Args: []byte("[]"), Kwargs: []byte("{}"), Retention: time.Minute,
			})
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for err = p.Enqueue(ctx, queue, 0, m); err != nil && ctx.Err() == nil; err = p.Enqueue(ctx, queue, 0, m) {
				<-time.After(10 * time.Millisecond)
			}
			return err
		})
	}
	require.NoError(t, all.Wait())
}
