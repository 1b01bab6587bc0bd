//go:build outage

package outage_test

import (
	"context"
	"os"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is one thing that goes wrong and is put right again.
type fault struct {
	name string
	// rounds is how often, one after the other; once if zero.
	rounds int
	// hold is how long it stays so.
	hold time.Duration
	// unnoticed says that every submission must be accepted all the same.
	unnoticed bool
	// away says that the gateway has to find out that the broker is away.
	away bool
	// noStore says that results cannot be read meanwhile.
	noStore bool
	// startUp starts a gateway of its own when things are broken already.
	startUp bool
	// broken and healed do it. They return when it is done.
	broken, healed func(ctx context.Context, s *stack)
}

// held is how long a fault lasts, and heldFirst one that a gateway starts with.
const (
	held      = 4 * time.Second
	heldFirst = 3 * time.Second
)

// restarts is how often the broker is restarted in a row.
func restarts() int {
	if os.Getenv("LOVAGE_NIGHTLY") == "true" {
		return 20
	}
	return 3
}

func faults() []fault {
	heal := func(ctx context.Context, s *stack) {
		s.amqpProxy.heal(ctx)
		s.redisProxy.heal(ctx)
	}
	poison := func(toxics ...toxic) func(context.Context, *stack) {
		return func(_ context.Context, s *stack) { s.amqpProxy.poison(toxics...) }
	}
	startBroker := func(ctx context.Context, s *stack) { require.NoError(s.t, s.broker.Start(ctx)) }
	watermark := func(args ...string) func(context.Context, *stack) {
		return func(ctx context.Context, s *stack) {
			_, err := s.broker.Ctl(ctx, append([]string{"set_vm_memory_high_watermark"}, args...)...)
			require.NoError(s.t, err)
		}
	}
	refuseAMQP := func(_ context.Context, s *stack) { s.amqpProxy.refuse() }
	acceptAMQP := func(_ context.Context, s *stack) { s.amqpProxy.accept() }
	refuseRedis := func(_ context.Context, s *stack) { s.redisProxy.refuse() }
	acceptRedis := func(_ context.Context, s *stack) { s.redisProxy.accept() }
	return []fault{
		{name: "200 ms latency to the broker", hold: held, unnoticed: true, broken: poison(delay(upstream, 100), delay(downstream, 100)), healed: heal},
		{name: "connections reset in the middle of a write", hold: held, broken: poison(cut(upstream, 20_011)), healed: heal},
		{name: "broker black-holed", hold: held, away: true, broken: poison(swallow(upstream), swallow(downstream)), healed: heal},
		{
			name: "broker frozen (SIGSTOP)", hold: held, away: true,
			broken: func(_ context.Context, s *stack) { require.NoError(s.t, s.broker.Freeze()) },
			healed: func(_ context.Context, s *stack) { require.NoError(s.t, s.broker.Thaw()) },
		},
		{name: "memory alarm (connection.blocked)", hold: held, away: true, broken: watermark("0"), healed: watermark("absolute", "1GB")},
		{
			name: "broker killed (kill -9)", hold: held, away: true, healed: startBroker,
			broken: func(_ context.Context, s *stack) { require.NoError(s.t, s.broker.Kill()) },
		},
		{
			name: "broker stopped (refused)", hold: held / 2, away: true,
			broken: func(ctx context.Context, s *stack) {
				require.NoError(s.t, s.broker.Stop(ctx))
				s.amqpProxy.refuse()
			},
			healed: func(ctx context.Context, s *stack) {
				s.amqpProxy.accept()
				startBroker(ctx, s)
			},
		},
		{
			name: "broker restarted under load", rounds: restarts(), away: true, healed: startBroker,
			broken: func(ctx context.Context, s *stack) { require.NoError(s.t, s.broker.Stop(ctx)) },
		},
		{
			name: "Redis stopped", hold: held, unnoticed: true, noStore: true,
			broken: func(ctx context.Context, s *stack) { require.NoError(s.t, s.redis.Stop(ctx)) },
			healed: func(ctx context.Context, s *stack) { require.NoError(s.t, s.redis.Start(ctx)) },
		},
		{
			name: "Redis frozen (SIGSTOP)", hold: held, unnoticed: true, noStore: true,
			broken: func(_ context.Context, s *stack) { require.NoError(s.t, s.redis.Freeze()) },
			healed: func(_ context.Context, s *stack) { require.NoError(s.t, s.redis.Thaw()) },
		},
		// At the start, a broker that is killed is one that refuses, and one that
		// is frozen one that is black-holed.
		{name: "broker refused at start-up", hold: heldFirst, startUp: true, away: true, broken: refuseAMQP, healed: acceptAMQP},
		{name: "broker black-holed at start-up", hold: heldFirst, startUp: true, away: true, broken: poison(swallow(upstream), swallow(downstream)), healed: heal},
		{name: "memory alarm at start-up", hold: heldFirst, startUp: true, away: true, broken: watermark("0"), healed: watermark("absolute", "1GB")},
		{name: "connections reset at start-up", hold: heldFirst, startUp: true, away: true, broken: poison(cut(upstream, 200)), healed: heal},
		// To connect takes dozens of round trips, and then everything is accepted.
		{name: "200 ms latency at start-up", hold: heldFirst, startUp: true, unnoticed: true, broken: poison(delay(upstream, 100), delay(downstream, 100)), healed: heal},
		{name: "Redis refused at start-up", hold: heldFirst, startUp: true, unnoticed: true, noStore: true, broken: refuseRedis, healed: acceptRedis},
		{
			name: "Redis black-holed at start-up", hold: heldFirst, startUp: true, unnoticed: true, noStore: true, healed: heal,
			broken: func(_ context.Context, s *stack) { s.redisProxy.poison(swallow(upstream), swallow(downstream)) },
		},
	}
}
