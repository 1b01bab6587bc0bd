// Command floor is the least that a program can do to bring a task from HTTP to
// a queue, or from a loop to a queue, and still know that it has arrived. It is
// what the gateway is measured against.
//
// It takes one message out of the queue to have something to send: so what it
// sends is what the gateway has sent there before, byte for byte but for the id.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

type settings struct {
	Listen     string `required:"" help:"Address to serve HTTP on."`
	AMQPURL    string `required:"" name:"amqp-url" help:"RabbitMQ."`
	Queue      string `required:"" help:"Queue to take the sample from and to publish to."`
	TwoHeaders bool   `help:"Send only the headers task and id."`
	Channels   int    `default:"1" help:"Channels of the one connection."`
	Window     int    `default:"100" help:"Unconfirmed messages of each channel in a loop."`
	// Delay is for a loop against batches of delayed tasks.
	Delay time.Duration `help:"Publish to the delays, as ours does."`
}

func main() { os.Exit(start()) }

func start() int {
	var s settings
	kong.Parse(&s)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(ctx context.Context, s settings) error {
	channels, err := open(s)
	if err != nil {
		return err
	}
	sample, ok, err := channels[0].Get(s.Queue, true)
	if err != nil || !ok {
		return errors.Join(fmt.Errorf("take a sample from queue %s: there is one: %v", s.Queue, ok), err)
	}
	if s.Delay > 0 {
		sample.Headers["eta"] = time.Now().Add(s.Delay).UTC().Format(time.RFC3339Nano)
	}
	f := &floor{to: rabbitmq.Delayed(s.Queue, s.Delay), channels: channels, window: s.Window, template: newTemplate(&sample, s.TwoHeaders)}
	e := echo.New()
	e.POST("/submit", f.submit)
	e.POST("/publish", f.publish)
	e.GET("/metrics", echo.WrapHandler(promhttp.Handler()))
	return serve(ctx, &http.Server{Handler: e, ReadHeaderTimeout: 5 * time.Second}, s.Listen)
}

// open returns the channels of one connection, in confirm mode.
func open(s settings) ([]*amqp.Channel, error) {
	conn, err := amqp.Dial(s.AMQPURL)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	channels := make([]*amqp.Channel, s.Channels)
	for i := range channels {
		ch, err := conn.Channel()
		if err != nil {
			return nil, fmt.Errorf("open channel: %w", err)
		}
		if err := ch.Confirm(false); err != nil {
			return nil, fmt.Errorf("select confirms: %w", err)
		}
		channels[i] = ch
	}
	return channels, nil
}

// serve listens last: whoever can connect can also submit.
func serve(ctx context.Context, s *http.Server, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	stopped := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stopped()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
