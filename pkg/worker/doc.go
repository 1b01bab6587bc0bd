// Package worker is what a program imports to run tasks.
//
// A task is a function with a name. Give it to a worker and run the worker:
//
//	w := worker.New(worker.Options{
//		AMQPURL:  "amqp://guest:guest@127.0.0.1:5672/",
//		RedisURL: "redis://127.0.0.1:6379/0",
//		Queue:    "sums",
//	})
//	worker.Handle(w, "add", func(ctx context.Context, in AddIn) (int, error) {
//		return in.X + in.Y, nil
//	})
//	err := w.Run(ctx) // until ctx ends
//
// From then on the gateway takes POST /v1/tasks/add, and any Celery client can
// send "add". The package example is a whole program.
//
// # Input
//
// The fields of the input struct are the parameters of the task. Their JSON
// Schema is derived from the type, and the gateway refuses what does not fit
// before it is queued:
//
//	type ResizeIn struct {
//		URL    string `json:"url" jsonschema:"description=Where the image is"`
//		Width  int    `json:"width" jsonschema:"minimum=1,maximum=4096,default=256"`
//		Format string `json:"format,omitempty" jsonschema:"enum=png,enum=jpeg"`
//	}
//
// A field is required unless it is "omitempty" or "omitzero", or has a default;
// unknown fields are refused. The keywords are description, title, default,
// example, enum (once for each value), minimum, maximum, exclusiveMinimum,
// exclusiveMaximum, multipleOf, minLength, maxLength, pattern, format, minItems,
// maxItems, uniqueItems, and without a value nullable and required. A comma
// inside a text is written as \\, in the tag. Defaults apply to the fields of
// the input itself, not to those of structs within it. Positional arguments, as
// a Celery client sends them, are taken for the fields in their order.
//
// The worker checks the input once more, because a Celery client does not ask
// the gateway; what does not fit is a dead letter that names every field at
// fault. A type that cannot be described, or a keyword that nobody knows, makes
// [Handle] panic when the program starts.
//
// # Outcome
//
// What the function returns decides what becomes of the task:
//
//   - A nil error: SUCCESS, with the other value as the result in JSON, of at
//     most 64 MiB.
//   - [Permanent]: FAILURE at once, and the message becomes a dead letter, which
//     can be looked at, edited and sent again.
//   - [RetryAfter]: the next attempt comes after the time it names.
//   - Any other error, and a panic: the next attempt comes after a [Backoff].
//     When the retries of [WithMaxRetries] are used up, the task fails.
//     [WithRetryOn] and [WithGiveUpOn] tell by the kind of the error which ones
//     are not worth a retry.
//
// A task runs at least once. It runs again when its worker died in the middle,
// so a function should be safe to repeat: [Token] is the same each time and
// makes a good idempotency key for work that must happen once.
//
// # Context
//
// The context of the function knows its task: [TaskID], [Token], [Attempt],
// [TraceParent], [Logger], and [Progress], which everybody who watches the task
// sees at once. It ends when the task has to stop, and [context.Cause] says why:
// [ErrSoftTimeLimit], [ErrTimeLimit], [ErrCancelled], [ErrLeaseLost], or
// [ErrDrainTimeout] when the worker shuts down. A task that a shutdown
// interrupts is given back: it runs on another worker and keeps its count of
// retries.
//
// A function that goes on after its context has ended is left behind after a
// second, so that the worker stays whole: its slot goes to the next task, and
// [Worker.Abandoned] counts it for as long as it runs.
//
// # Middleware
//
// What every task needs goes into [Options].Middleware: a function around the
// handlers, which sees each attempt begin and end. [Trace], [Log] and [Recover]
// come with the package; write your own for whatever else there is:
//
//	func tenant(next worker.Func) worker.Func {
//		return func(ctx context.Context, t *messages.Task) (json.RawMessage, error) {
//			return next(withTenant(ctx, t.Headers["tenant"]), t)
//		}
//	}
//
// # Tests
//
// A task is a plain function, so call it. [WithTask] makes the context that it
// expects. Package workertest runs a task as a worker would, retries included,
// without RabbitMQ and Redis.
package worker
