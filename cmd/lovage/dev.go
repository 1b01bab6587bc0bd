//go:build !nodev

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/pkg/client"
	gateway "github.com/lovage-mq/lovage/services/gateway/embedded"
	worker "github.com/lovage-mq/lovage/services/worker/embedded"
)

const (
	// stopTime is how long RabbitMQ and Redis may take to end in order.
	stopTime = 30 * time.Second
	// devReady is how long the gateway may take to be connected to everything.
	devReady = time.Minute
)

// local are the commands that run servers here.
type local struct {
	Dev devCmd `cmd:"" offline:"" help:"Run a gateway, a worker and what they need, until Ctrl-C."`
}

type devCmd struct {
	Listen   string `default:"127.0.0.1:8080" placeholder:"ADDRESS" help:"Where the gateway listens."`
	AMQPURL  string `name:"amqp-url" env:"LOVAGE_AMQP_URL" placeholder:"URL" help:"RabbitMQ; without it a private one is started, which has to be installed."`
	RedisURL string `name:"redis-url" env:"LOVAGE_REDIS_URL" placeholder:"URL" help:"Redis; likewise."`
	Dir      string `type:"path" placeholder:"DIR" help:"Keep the state of the private ones here. Without it, it goes at the end."`
	Worker   bool   `default:"true" negatable:"" help:"Run the worker with the built-in tasks."`
	LogLevel string `default:"warn" enum:"debug,info,warn,error" help:"Lowest level that gateway and worker log: ${enum}."`
}

// Run serves until ctx ends. What it has started ends with it, in order, and also
// when the program is killed.
func (c *devCmd) Run(ctx context.Context, a *app) (err error) {
	log, err := service.Options{LogLevel: c.LogLevel, LogFormat: "console"}.Logger()
	if err != nil {
		return err
	}
	own := servers{dir: c.Dir}
	defer func() { err = errors.Join(err, own.stop(ctx)) }()
	switch err := own.start(ctx, a, c); {
	case ctx.Err() != nil:
		return nil // it was told to end
	case err != nil:
		return c.explain(err)
	}
	return c.serve(ctx, a, &own, log)
}

// explain says what to do where something is not there.
func (c *devCmd) explain(err error) error {
	if !errors.Is(err, devstack.ErrNotInstalled) {
		return err
	}
	return &outcome{exitGateway, fmt.Sprintf("%v\nInstall rabbitmq-server and redis-server (Debian, Ubuntu: apt install rabbitmq-server redis-server; "+
		"macOS: brew install rabbitmq redis), or say where there are some: --amqp-url and --redis-url.", err)}
}

// serve runs gateway and worker, and says when they can be used.
func (c *devCmd) serve(ctx context.Context, a *app, at *servers, log *zap.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	places := []string{"--amqp-url=" + at.amqp, "--redis-url=" + at.redis}
	g.Go(func() error {
		args := append([]string{"--listen=" + c.Listen}, places...)
		if at.management != "" {
			args = append(args, "--management-url="+at.management)
		}
		return gateway.Run(ctx, args, log.Named("gateway"))
	})
	if c.Worker {
		g.Go(func() error {
			return worker.Run(ctx, append([]string{"--listen=", "--metrics-listen="}, places...), log.Named("worker"))
		})
	}
	g.Go(func() error {
		err := c.await(ctx)
		switch {
		case err == nil:
			a.welcome(c, at)
		case ctx.Err() == nil:
			return err
		}
		return nil // or it was told to end
	})
	return g.Wait()
}

// await returns when the gateway reaches everything, and knows the built-in tasks.
func (c *devCmd) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, devReady)
	defer cancel()
	gateway := client.Client{BaseURL: "http://" + c.Listen}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		h, err := gateway.Ready(ctx)
		if err == nil && h.RabbitMQ == "up" && h.Redis == "up" && (h.Tasks > 0 || !c.Worker) {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			if h != nil {
				return fmt.Errorf("gateway is not ready after %v: rabbitmq is %s, redis is %s", devReady, h.RabbitMQ, h.Redis)
			}
			return fmt.Errorf("gateway is not ready after %v: %w", devReady, err)
		}
	}
}

func (a *app) welcome(c *devCmd, at *servers) {
	_, _ = fmt.Fprintf(a.out, "Gateway   http://%s (its API: http://%s/docs)\n", c.Listen, c.Listen)
	if at.rabbitmq != nil {
		_, _ = fmt.Fprintf(a.out, "RabbitMQ  %s (console: %s)\n", at.amqp, at.management)
	}
	if at.store != nil {
		_, _ = fmt.Fprintf(a.out, "Redis     %s\n", at.redis)
	}
	if c.Worker {
		program := "lovage"
		if address := "http://" + c.Listen; address != defaultGateway {
			program += " --gateway " + address
		}
		_, _ = fmt.Fprintf(a.out, "Try       %s submit sleep_task -i duration=3 --wait\n", program)
	}
	_, _ = fmt.Fprintln(a.out, "Serving until Ctrl-C.")
}

// servers are the RabbitMQ and the Redis that are used, and those of them that are
// our own.
type servers struct {
	dir                     string
	amqp, management, redis string
	rabbitmq                *devstack.RabbitMQInstance
	store                   *devstack.RedisInstance
}

// start starts what was not named.
func (s *servers) start(ctx context.Context, a *app, c *devCmd) error {
	s.amqp, s.redis = c.AMQPURL, c.RedisURL
	g, ctx := errgroup.WithContext(ctx)
	if s.amqp == "" {
		a.say("starting RabbitMQ, which takes a few seconds")
		g.Go(func() (err error) {
			if s.rabbitmq, err = devstack.StartRabbitMQ(ctx, devstack.RabbitMQOptions{Dir: s.under("rabbitmq")}); err == nil {
				s.amqp, s.management = s.rabbitmq.URL(), s.rabbitmq.ManagementURL()
			}
			return err
		})
	}
	if s.redis == "" {
		g.Go(func() (err error) {
			if s.store, err = devstack.StartRedis(ctx, devstack.RedisOptions{Dir: s.under("redis")}); err == nil {
				s.redis = s.store.URL()
			}
			return err
		})
	}
	return g.Wait()
}

func (s *servers) under(name string) string {
	if s.dir == "" {
		return ""
	}
	return filepath.Join(s.dir, name)
}

// stop ends what is our own. State that is kept is written before.
func (s *servers) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	var errs []error
	if s.rabbitmq != nil {
		if s.dir != "" {
			errs = append(errs, s.rabbitmq.Stop(ctx))
		}
		errs = append(errs, s.rabbitmq.Close())
	}
	if s.store != nil {
		if s.dir != "" {
			errs = append(errs, s.store.Stop(ctx))
		}
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}
