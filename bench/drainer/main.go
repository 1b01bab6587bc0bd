// Command drainer works off a queue, as a worker of ours or by a loop of one's
// own, and tells how long that took, or how soon each task began.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kong"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
)

type settings struct {
	service.Options

	Listen   string `required:"" help:"Address to serve HTTP on."`
	AMQPURL  string `required:"" name:"amqp-url" help:"RabbitMQ."`
	RedisURL string `required:"" name:"redis-url" help:"Redis."`
	Queue    string `required:"" help:"Queue to work off."`
	Task     string `required:"" help:"Kind of the tasks in it."`
	Messages int64  `required:"" help:"How many there are."`
	Slots    int    `help:"Slots of a worker of ours; none for a loop by hand."`
	// Rate makes it measure how soon a task is picked up.
	Rate float64 `help:"Send the tasks, so many a second, and measure until each begins."`
}

// drained is how far it has come.
type drained struct {
	done        atomic.Int64
	begin, ends atomic.Int64 // in nanoseconds, 0 when it has not
	told        atomic.Value // what there is to tell in place of the seconds
}

func (d *drained) tell(result any) {
	d.told.Store(result)
	d.ended()
}

// answer is what there is to tell when it is over.
func (d *drained) answer() any {
	if told := d.told.Load(); told != nil {
		return told
	}
	return time.Duration(d.ends.Load() - d.begin.Load()).Seconds()
}

func (d *drained) started() { d.begin.CompareAndSwap(0, time.Now().UnixNano()) }
func (d *drained) ended()   { d.ends.CompareAndSwap(0, time.Now().UnixNano()) }

func main() { os.Exit(start()) }

// start runs it as the worker that ships is run.
func start() int {
	var s settings
	kong.Parse(&s)
	return s.Run(func(ctx context.Context, _ *zap.Logger) error { return run(ctx, s) })
}

func run(ctx context.Context, s settings) error {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	var d drained
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return err
	}
	// The seconds, or the times to the first line, once it is over.
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if d.ends.Load() == 0 {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_ = json.NewEncoder(w).Encode(d.answer())
	})}
	defer func() { _ = srv.Close() }()
	all.Go(func() { _ = srv.Serve(l) })
	if s.Rate > 0 {
		p := &pickup{settings: s, times: map[string]*moments{}}
		return p.run(ctx, &d)
	}
	if s.Slots > 0 {
		return work(ctx, s, &d, &all)
	}
	return loop(ctx, s, &d)
}

// work is a worker of ours whose task does nothing.
func work(ctx context.Context, s settings, d *drained, all *sync.WaitGroup) error {
	w := worker.New(worker.Options{AMQPURL: s.AMQPURL, RedisURL: s.RedisURL, Queue: s.Queue, Concurrency: s.Slots})
	worker.Handle(w, s.Task, func(context.Context, struct {
		Duration int `json:"duration"`
	}) (struct{}, error) {
		d.started()
		d.done.Add(1)
		return struct{}{}, nil
	})
	all.Go(func() {
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		// A slot is free when its task is settled and acked.
		for d.done.Load() < s.Messages || w.Status().Busy > 0 {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
		}
		d.ended()
	})
	return w.Run(ctx)
}

const (
	prefetch = 1000
	group    = 200
)

// loop stores one value a message, in pipelines of 200, and acks as many at
// once: the least that keeps what a task came to.
func loop(ctx context.Context, s settings, d *drained) error {
	o, err := redis.ParseURL(s.RedisURL)
	if err != nil {
		return err
	}
	client := redis.NewClient(o)
	conn, err := amqp.Dial(s.AMQPURL)
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, s.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	record := `{"status":"SUCCESS","result":{},"pad":"` + strings.Repeat("x", 400) + `"}`
	for d.done.Load() < s.Messages {
		first, open := <-deliveries
		if !open {
			return fmt.Errorf("consumer ended after %s messages", strconv.FormatInt(d.done.Load(), 10))
		}
		d.started()
		pipe := client.Pipeline()
		last := first
		for n := 1; ; n++ {
			pipe.Set(ctx, messages.ResultKey(last.MessageId), record, 24*time.Hour)
			d.done.Add(1)
			if n == group || d.done.Load() == s.Messages {
				break
			}
			last = <-deliveries
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		if err := last.Ack(true); err != nil {
			return err
		}
	}
	d.ended()
	<-ctx.Done()
	return nil
}
