package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// answerTime is how long a server that runs may take to answer before it counts
// as dead.
const answerTime = 10 * time.Second

// startRabbitMQ starts the broker unless it runs and answers.
func (s *stack) startRabbitMQ(ctx context.Context, st *state) error {
	served, err := s.serves(ctx, st, "rabbitmq", func(ctx context.Context) bool {
		return devstack.RabbitMQAnswers(ctx, st.ports().AMQP)
	})
	if served || err != nil {
		return err
	}
	// A port mapper whose node is gone holds the port that the new one needs.
	if err := s.stop(ctx, st, "epmd", answerTime); err != nil {
		return err
	}
	p := st.ports()
	r, err := devstack.StartRabbitMQ(ctx, devstack.RabbitMQOptions{
		Dir: s.run("rabbitmq"), Port: p.AMQP, ManagementPort: p.Management, DistPort: p.Dist, EPMDPort: p.EPMD,
	})
	if err != nil {
		return err
	}
	if err := s.keepRabbitMQ(st, r); err != nil {
		_ = r.Close()
		return err
	}
	s.print("rabbitmq is up (pid %d)", r.PID())
	return nil
}

// keepRabbitMQ writes the broker down, and only then lets it outlive us.
func (s *stack) keepRabbitMQ(st *state, r *devstack.RabbitMQInstance) error {
	broker, epmd := r.Processes()
	err := st.change(func() error {
		p := r.Ports()
		st.Ports.AMQP, st.Ports.Management = p.Port, p.ManagementPort
		st.Ports.Dist, st.Ports.EPMD = p.DistPort, p.EPMDPort
		return nil
	})
	if err != nil {
		return err
	}
	if err := st.started("epmd", epmd, ""); err != nil {
		return err
	}
	if err := st.started("rabbitmq", broker, ""); err != nil {
		return err
	}
	return r.Detach()
}

// startRedis starts Redis unless it runs and answers.
func (s *stack) startRedis(ctx context.Context, st *state) error {
	served, err := s.serves(ctx, st, "redis", func(ctx context.Context) bool {
		return devstack.RedisAnswers(ctx, st.ports().Redis)
	})
	if served || err != nil {
		return err
	}
	r, err := devstack.StartRedis(ctx, devstack.RedisOptions{Dir: s.run("redis"), Port: st.ports().Redis})
	if err != nil {
		return err
	}
	if err := s.keepRedis(st, r); err != nil {
		_ = r.Close()
		return err
	}
	s.print("redis is up (pid %d)", r.PID())
	return nil
}

func (s *stack) keepRedis(st *state, r *devstack.RedisInstance) error {
	err := st.change(func() error {
		st.Ports.Redis = r.Port()
		return nil
	})
	if err != nil {
		return err
	}
	if err := st.started("redis", r.Process(), ""); err != nil {
		return err
	}
	return r.Detach()
}

// serves reports whether a server runs and answers. One that runs and does not
// answer in time is killed.
func (s *stack) serves(ctx context.Context, st *state, name string, answers func(context.Context) bool) (bool, error) {
	p, running := st.process(name)
	if !running {
		return false, nil
	}
	for end := time.Now().Add(answerTime); p.Alive() && time.Now().Before(end); {
		if answers(ctx) {
			s.print("%s runs (pid %d)", name, p.PID())
			return true, nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return false, err
		}
	}
	s.print("%s does not answer: starting it again", name)
	if err := p.Kill(); err != nil {
		return false, fmt.Errorf("kill %s: %w", name, err)
	}
	return false, nil
}
