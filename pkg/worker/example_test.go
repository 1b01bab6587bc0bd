package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
)

// GreetIn is the input of the task "greet".
type GreetIn struct {
	Name  string `json:"name" jsonschema:"minLength=1,description=Who is greeted"`
	Times int    `json:"times" jsonschema:"minimum=1,maximum=10,default=1,description=How often"`
}

// GreetOut is its result.
type GreetOut struct {
	Text string `json:"text"`
}

func greet(ctx context.Context, in GreetIn) (GreetOut, error) {
	var out GreetOut
	for i := range in.Times {
		out.Text += "Hello " + in.Name + "! "
		if err := worker.Progress(ctx, float64(i+1), float64(in.Times), nil); err != nil {
			worker.Logger(ctx).Info("nobody sees the progress")
		}
	}
	return out, nil
}

// A worker with one task. Submit it with
//
//	curl localhost:8080/v1/tasks/greet -H 'Content-Type: application/json' -d '{"name": "Ada"}'
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	w := worker.New(worker.Options{
		AMQPURL:  "amqp://guest:guest@127.0.0.1:5672/",
		RedisURL: "redis://127.0.0.1:6379/0",
		Queue:    "greetings",
	})
	worker.Handle(w, "greet", greet)
	if err := w.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func ExampleHandle() {
	w := worker.New(worker.Options{})
	worker.Handle(w, "greet", greet,
		worker.WithDescription("Greets somebody"),
		worker.WithQueue("polite"),
		worker.WithMaxRetries(5),
		worker.WithBackoff(worker.Backoff{Base: 500 * time.Millisecond, Max: time.Minute}),
		worker.WithTimeLimit(30*time.Second),
	)

	entry := w.Catalog()[0]
	fmt.Println(entry.Name, "on", entry.Queue, "takes", entry.Params)
	fmt.Println(string(entry.Input))
	// Output:
	// greet on polite takes [name times]
	// {"properties":{"name":{"type":"string","minLength":1,"description":"Who is greeted"},"times":{"type":"integer","maximum":10,"minimum":1,"description":"How often","default":1}},"additionalProperties":false,"type":"object","required":["name"]}
}

func ExamplePermanent() {
	read := func(name string) error {
		if name == "" {
			// No retry will give the file a name.
			return worker.Permanent(fmt.Errorf("read file: %w", fs.ErrInvalid))
		}
		return nil
	}

	err := read("")
	var permanent *worker.PermanentError
	fmt.Println(err)
	fmt.Println("permanent:", errors.As(err, &permanent), "invalid:", errors.Is(err, fs.ErrInvalid))
	// Output:
	// read file: invalid argument
	// permanent: true invalid: true
}

func ExampleRetryAfter() {
	err := worker.RetryAfter(time.Minute, errors.New("the service is closed for lunch"))
	if retry, ok := errors.AsType[*worker.RetryError](err); ok {
		fmt.Println(retry.After, err)
	}
	// Output: 1m0s the service is closed for lunch
}

func ExampleBackoff() {
	backoff := worker.Backoff{Base: time.Second, Factor: 2, Max: time.Minute}
	longest := func() float64 { return 1 } // without the jitter
	for retry := range 8 {
		fmt.Print(backoff.Delay(retry, longest), " ")
	}
	// Output: 1s 2s 4s 8s 16s 32s 1m0s 1m0s
}

func ExampleWithTask() {
	task := &messages.Task{ID: "a-task", Retries: 1}
	ctx := worker.WithTask(context.Background(), task, nil, func(_ context.Context, p messages.ProgressInfo) error {
		fmt.Println(p.Percent, "%")
		return nil
	})

	out, err := greet(ctx, GreetIn{Name: "Ada", Times: 2})
	fmt.Println(out.Text, err, worker.TaskID(ctx), worker.Attempt(ctx))
	// Output:
	// 50 %
	// 100 %
	// Hello Ada! Hello Ada!  <nil> a-task 2
}
