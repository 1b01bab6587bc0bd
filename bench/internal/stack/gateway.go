package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// Task is what all contenders submit, Input its input, TaskPath where a gateway
// takes it.
const (
	Task     = "sleep_task"
	Input    = `{"duration":1}`
	TaskPath = "/v1/tasks/" + Task + "?queue=" + Queue
)

// Gateway starts a gateway and returns when it knows the tasks and can submit.
func (s *Stack) Gateway(ctx context.Context, env ...string) (*Service, error) {
	return Build{stack: s}.Gateway(ctx, env...)
}

// Gateway starts a gateway and returns when it knows the tasks and can submit.
func (b Build) Gateway(ctx context.Context, env ...string) (*Service, error) {
	v, err := b.stack.start(ctx, filepath.Join(b.dir, "gateway"), none, func(address string) []string {
		return append(b.stack.environment(), append(env, "LOVAGE_LISTEN="+address)...)
	})
	if err != nil {
		return nil, err
	}
	return v, poll(ctx, "the gateway is ready", func() bool {
		h, err := health(ctx, v.Address)
		return err == nil && h.RabbitMQ == "up" && h.Redis == "up" && h.Tasks > 0
	})
}

// Announce lets a worker declare the queue and tell its tasks. Then it stops, so
// that nobody consumes.
func (s *Stack) Announce(ctx context.Context) error {
	v, err := s.start(ctx, "worker", none, func(address string) []string {
		return append(s.environment(), "LOVAGE_QUEUE="+Queue, "LOVAGE_LISTEN="+address)
	})
	if err != nil {
		return err
	}
	err = poll(ctx, "the worker consumes", func() bool {
		q, err := s.channel.QueueDeclarePassive(Queue, true, false, false, false, nil)
		if err != nil {
			s.channel, _ = s.conn.Channel() // the broker closes one that asks for what is not there
			return false
		}
		return q.Consumers > 0
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := v.Stop(ctx); err != nil {
		return fmt.Errorf("stop worker: %w", err)
	}
	return nil
}

func none(string) []string { return nil }

func (s *Stack) environment() []string {
	return []string{"LOVAGE_AMQP_URL=" + s.amqpURL(), "LOVAGE_REDIS_URL=" + s.redisURL()}
}

type readiness struct {
	RabbitMQ, Redis string
	Tasks           int
}

func health(ctx context.Context, address string) (h readiness, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return h, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return h, err
	}
	defer func() { _ = res.Body.Close() }()
	return h, json.NewDecoder(res.Body).Decode(&h)
}

// BenchTask is a task of the drainer alone, which does what the drainer is told.
const BenchTask = "bench_task"

// FillOurs submits many tasks of a kind to a gateway, as one batch.
func FillOurs(ctx context.Context, gateway *Service, kind string, n int) error {
	input, err := json.Marshal(runner.InputOf(kind))
	if err != nil {
		return err
	}
	item := fmt.Sprintf(`{"task":"%s","kwargs":%s,"options":{"queue":"%s"}}`, BenchTask, input, Queue)
	accepted, err := load.Batch(ctx, "http://"+gateway.Address+"/v1/batches", item, `"status":202`, n)
	if err == nil && accepted < n {
		err = fmt.Errorf("only %d of %d were accepted", accepted, n)
	}
	return err
}

// Delay is how long delayed tasks wait: longer than any measurement.
const Delay = time.Hour

// DelayQueue is the queue in which they wait at first.
func DelayQueue() string { return rabbitmq.Delayed(Queue, Delay).Exchange }

// DeclareDelays has a gateway declare what delays need, by submitting a task.
func (s *Stack) DeclareDelays(ctx context.Context, gateway *Service) error {
	return poll(ctx, "a delayed task is accepted", func() bool {
		return load.Post(ctx, fmt.Sprintf("http://%s%s&countdown=%v", gateway.Address, TaskPath, Delay.Seconds()), Input, http.StatusAccepted) == nil
	})
}

// SubmitOne submits one task to a gateway.
func SubmitOne(ctx context.Context, address string) error {
	return load.Post(ctx, "http://"+address+TaskPath, Input, http.StatusAccepted)
}

// GatewayKnows reports whether the gateway has a setting of this name.
func (s *Stack) GatewayKnows(ctx context.Context, setting string) (bool, error) {
	help, err := exec.CommandContext(ctx, filepath.Join(s.dir, "gateway"), "--help").Output()
	if err != nil {
		return false, fmt.Errorf("ask gateway for its settings: %w", err)
	}
	return bytes.Contains(help, []byte(setting)), nil
}
