package devstack

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// maxVHosts is how many virtual hosts one test binary has at a time. A hundred
// full ones would cost the broker 660 MB and a fifth of a core.
const maxVHosts = 8

// shared is the broker that all tests of a binary use. It keeps the instance:
// the garbage collector would close the pipe of its guard, which ends it.
//
//nolint:gochecknoglobals // Tests have no other place that they share.
var shared = struct {
	once   sync.Once
	own    *RabbitMQInstance
	broker Broker
	err    error
	vhosts chan struct{}
}{
	vhosts: make(chan struct{}, maxVHosts),
}

// sharedBroker returns the broker of `make test`, or starts one that lives as
// long as the test binary: its guard ends it.
func sharedBroker() (Broker, error) {
	shared.once.Do(func() {
		if s := os.Getenv(BrokerVariable); s != "" {
			shared.broker, shared.err = ParseBroker(s)
			return
		}
		shared.own, shared.err = StartRabbitMQ(context.Background(), RabbitMQOptions{})
		if shared.err == nil {
			shared.broker = shared.own.Broker()
		}
	})
	return shared.broker, shared.err
}

// VHost returns the AMQP address of a fresh virtual host on a broker that tests
// share. The host is deleted, with its queues and connections, when the test and
// the cleanups that it registered later are done. It blocks while eight are in
// use, so one test must not ask for many.
func VHost(tb testing.TB) string {
	tb.Helper()
	broker, err := sharedBroker()
	if err != nil {
		tb.Fatalf("shared broker: %v", err)
	}
	shared.vhosts <- struct{}{}
	tb.Cleanup(func() { <-shared.vhosts })

	name := fmt.Sprintf("test-%d-%s", os.Getpid(), strings.ToLower(rand.Text()))
	if err := broker.CreateVHost(tb.Context(), name); err != nil {
		tb.Fatal(err)
	}
	ctx := context.WithoutCancel(tb.Context())
	tb.Cleanup(func() {
		if err := broker.DeleteVHost(ctx, name); err != nil {
			tb.Error(err)
		}
	})
	return broker.VHostURL(name)
}

// SharedBroker returns the broker that [VHost] uses, for tests that need its
// management API.
func SharedBroker(tb testing.TB) Broker {
	tb.Helper()
	broker, err := sharedBroker()
	if err != nil {
		tb.Fatalf("shared broker: %v", err)
	}
	return broker
}

// Redis returns the address of a Redis that belongs to the test alone and
// answers a write only when it is on the disk. It ends with the test.
func Redis(tb testing.TB) string {
	tb.Helper()
	return RedisServer(tb).URL()
}

// RedisServer returns a Redis for a test that stops, kills or freezes it. It ends
// with the test.
func RedisServer(tb testing.TB) *RedisInstance {
	tb.Helper()
	r, err := StartRedis(tb.Context(), RedisOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// RabbitMQ returns a broker for a test that stops, kills or freezes it. It ends
// with the test. Before killing it, wait at least a second after the last
// declaration of a quorum queue: RabbitMQ 3 loses younger ones.
func RabbitMQ(tb testing.TB) *RabbitMQInstance {
	tb.Helper()
	r, err := StartRabbitMQ(tb.Context(), RabbitMQOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}
