package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/lovage-mq/lovage/internal/tracing"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// ErrNoTask is what [Progress] returns outside of a handler.
var ErrNoTask = errors.New("the context is not that of a task")

// ProgressFunc stores how far a task has come.
type ProgressFunc func(ctx context.Context, p messages.ProgressInfo) error

// running is what a handler can ask its context about.
type running struct {
	task     *messages.Task
	log      *zap.Logger
	progress ProgressFunc
	// kept is where the lines of the task go beside the log of the worker; nil for
	// nowhere.
	kept *taskLog

	mu      sync.Mutex // guards what follows
	logger  *zap.Logger
	traceID string
	// over is set when the attempt has its outcome; a handler that was left
	// behind then reports no more progress.
	over atomic.Bool
}

// end is called when the attempt has its outcome.
func (r *running) end() {
	r.over.Store(true)
	if r.kept != nil {
		r.kept.end()
	}
}

type runningKey struct{}

// WithTask returns a context as a handler gets it. Its use is in the tests of
// a handler: t is the task that the handler believes to run, progress receives
// what it reports with [Progress]. Both log and progress may be nil.
func WithTask(ctx context.Context, t *messages.Task, log *zap.Logger, progress ProgressFunc) context.Context {
	if log == nil {
		log = zap.NewNop()
	}
	return context.WithValue(ctx, runningKey{}, &running{task: t, log: log, progress: progress})
}

func fromContext(ctx context.Context) *running {
	r, _ := ctx.Value(runningKey{}).(*running)
	return r
}

// Progress stores how far the task has come and tells whoever follows it. The
// percentage is current of total, from 0 to 100, and 0 when there is no total;
// meta is anything that encodes as JSON, nil for nothing.
//
// It blocks until Redis has taken it or ctx ends. Its error is
// [messages.ErrLost] when the attempt has ended or belongs to another worker by
// now, so that the handler had better stop; any other can be ignored.
func Progress(ctx context.Context, current, total float64, meta any) error {
	r := fromContext(ctx)
	if r == nil {
		return fmt.Errorf("report progress: %w", ErrNoTask)
	}
	if r.over.Load() {
		return fmt.Errorf("report progress: %w", messages.ErrLost)
	}
	info, err := progressInfo(current, total, meta)
	if err == nil && r.progress != nil {
		err = r.progress(ctx, info)
	}
	if err != nil {
		return fmt.Errorf("report progress: %w", err)
	}
	return nil
}

func progressInfo(current, total float64, meta any) (messages.ProgressInfo, error) {
	for _, number := range []float64{current, total} {
		if math.IsNaN(number) || math.IsInf(number, 0) {
			return messages.ProgressInfo{}, errors.New("current and total must be finite numbers")
		}
	}
	info := messages.ProgressInfo{Current: current, Total: total, Percent: percent(current, total)}
	if meta == nil {
		return info, nil
	}
	raw, err := json.Marshal(meta)
	if err != nil {
		return messages.ProgressInfo{}, fmt.Errorf("encode meta: %w", err)
	}
	info.Meta = raw
	return info, nil
}

// percent has two decimals, which is as much as anybody reads.
func percent(current, total float64) float64 {
	if total <= 0 {
		return 0
	}
	// The quotient first: current times 100 can overflow.
	return math.Round(min(max(current/total, 0), 1)*10_000) / 100
}

// Attempt returns the number of the present attempt, 1 for the first. Only a
// retry raises it: a task that is run again because its worker died keeps it.
// It is 0 outside of a handler.
func Attempt(ctx context.Context) int {
	if r := fromContext(ctx); r != nil {
		return r.task.Retries + 1
	}
	return 0
}

// TaskID returns the id of the task, the same for all its attempts, which makes
// it the key to do something once. It is empty outside of a handler.
func TaskID(ctx context.Context) string {
	if r := fromContext(ctx); r != nil {
		return r.task.ID
	}
	return ""
}

// Token returns what makes a side effect happen once: hand it to whoever takes
// an idempotency key. It is the same for all attempts of a task and for every
// second execution of one, and another one when somebody runs a task anew that
// had ended. It is empty outside of a handler.
func Token(ctx context.Context) string {
	if r := fromContext(ctx); r != nil {
		return r.task.ID + ":" + strconv.Itoa(r.task.Run)
	}
	return ""
}

// TraceParent returns the W3C trace context for whoever the handler calls: that
// of the span in ctx, such as [Trace] makes one of the attempt, else that which
// the task was submitted with. It is empty when there is none, and outside of a
// handler.
func TraceParent(ctx context.Context) string {
	r := fromContext(ctx)
	if r == nil {
		return ""
	}
	if parent, _ := tracing.Headers(ctx); parent != "" {
		return parent
	}
	return r.task.TraceParent
}

// Logger returns a logger that names the task, the attempt, and the trace where
// there is one. What it logs goes into the log of the worker ([Options].Log); and the
// last 100 lines of a task, of level info and above, and of any level that the log of
// the worker has, are kept as long as its result, for GET /v1/tasks/{id}/log. A line of
// more than 2 KiB is kept without its fields. They are written in groups beside the
// task: when it ends, and every 5 s. So whoever logs waits for nobody; and what a
// worker has logged just before it is killed is not kept.
//
// Logger is never nil: outside of a handler it logs nothing.
func Logger(ctx context.Context) *zap.Logger {
	r := fromContext(ctx)
	if r == nil {
		return zap.NewNop()
	}
	return r.logging(traceIDOf(TraceParent(ctx)))
}

// logging returns the logger of a trace, made when somebody asks for it.
func (r *running) logging(traceID string) *zap.Logger {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.logger != nil && r.traceID == traceID {
		return r.logger
	}
	r.logger = r.log.With(zap.String("task_id", r.task.ID), zap.String("task", r.task.Name), zap.Int("attempt", r.task.Retries+1))
	r.traceID = traceID
	if traceID != "" {
		r.logger = r.logger.With(zap.String("trace_id", traceID))
	}
	if r.kept != nil {
		r.logger = r.logger.WithOptions(zap.WrapCore(func(own zapcore.Core) zapcore.Core {
			return zapcore.NewTee(own, newLogCore(r.kept, own, r.task.Retries+1, traceID))
		}))
	}
	return r.logger
}
