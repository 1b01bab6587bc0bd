package devstack

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// helperVariable makes the test binary a process that starts servers and waits
// to be killed, or to end at once.
const helperVariable = "DEVSTACK_TEST_HELPER"

func TestMain(m *testing.M) {
	if role := os.Getenv(helperVariable); role != "" {
		os.Exit(helper(role))
	}
	goleak.VerifyTestMain(m)
}

// helper prints pid, start time and directory of its servers, one a line.
func helper(role string) int {
	ctx := context.Background()
	redis, err := StartRedis(ctx, RedisOptions{Dir: os.Getenv("DEVSTACK_TEST_DIR")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	describe(redis.Process(), redis.Dir())
	if role == "detach" {
		if err := redis.Detach(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	rabbit, err := StartRabbitMQ(ctx, RabbitMQOptions{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	broker, epmd := rabbit.Processes()
	describe(broker, rabbit.Dir())
	describe(epmd, rabbit.Dir())
	_, _ = fmt.Fprintln(os.Stdout, "ready")
	select {}
}

func describe(p *Process, dir string) { _, _ = fmt.Fprintln(os.Stdout, p.PID(), p.Started(), dir) }
