package stack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/procfs"
	"github.com/lovage-mq/lovage/internal/devstack" //nolint:depguard // a benchmark takes ports as tests do
)

// Clear empties a queue, forgets what was in it, and waits until the servers and
// programs have nothing left to do, so that every round begins alike.
func (s *Stack) Clear(ctx context.Context, queue string) error {
	if _, err := s.channel.QueuePurge(queue, false); err != nil {
		return fmt.Errorf("purge queue: %w", err)
	}
	if err := s.forget(ctx); err != nil {
		return err
	}
	if err := s.Quiet(ctx); err != nil {
		return err
	}
	// What a killed worker has not acked comes back after a moment.
	if _, err := s.channel.QueuePurge(queue, false); err != nil {
		return fmt.Errorf("purge queue: %w", err)
	}
	return nil
}

// Depth is how many messages are in a queue.
func (s *Stack) Depth(queue string) (int, error) {
	q, err := s.channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		return 0, fmt.Errorf("ask for depth of queue: %w", err)
	}
	return q.Messages, nil
}

const (
	// restless is the share of one processor above which the stack is not quiet.
	restless = 0.1
	// calm is how long it has to be below, patience how long it may take.
	calm     = 300 * time.Millisecond
	patience = 15 * time.Second
)

// Quiet waits for what a round leaves behind: records for Redis, files of the
// broker, garbage. A stack that does not get quiet is no error, only slow.
func (s *Stack) Quiet(ctx context.Context) error {
	tick := time.NewTicker(calm)
	defer tick.Stop()
	end := time.Now().Add(patience)
	before, err := s.cpu()
	for err == nil && time.Now().Before(end) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var now time.Duration
		now, err = s.cpu()
		if float64(now-before) < restless*float64(calm) {
			break
		}
		before = now
	}
	return err
}

func (s *Stack) serverPIDs() []int {
	pids := []int{s.RabbitMQ.PID(), s.Redis.PID()}
	if s.postgres != nil {
		pids = append(pids, s.postgres.PID())
	}
	return pids
}

// cpu is what all processes of the stack have used.
func (s *Stack) cpu() (sum time.Duration, err error) {
	pids := s.serverPIDs()
	for _, v := range s.services {
		if v.Alive() {
			pids = append(pids, v.PID())
		}
	}
	for _, pid := range pids {
		used, wrong := procfs.TreeCPU(pid)
		sum += used
		err = errors.Join(err, wrong)
	}
	return sum, err
}

// FreeAddress is one on which nobody listens now.
func FreeAddress(ctx context.Context) (string, error) {
	port, err := devstack.ReservePort(ctx, 0)
	if err != nil {
		return "", err
	}
	defer port.Release()
	return port.Address(), nil
}
