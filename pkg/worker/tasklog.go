package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

const (
	// lineMost bounds a line of a task's log in bytes: one that is longer loses its
	// fields, and its message is cut.
	lineMost    = 2 << 10
	messageMost = 1 << 10
	// unwrittenMost bounds what an attempt has logged and nobody has written yet,
	// in bytes, and unwrittenAll that of all attempts.
	unwrittenMost = 32 << 10
	unwrittenAll  = 16 << 20
	// endedMost is how many attempts that have ended wait for Redis.
	endedMost = 1000
	// logsTogether is how many attempts share a round trip.
	logsTogether = 256
	logsTimeout  = 2 * time.Second
)

// taskLogs write what tasks log, in groups: when attempts end, and else with the
// signs of life. While Redis is away lines are kept within limits.
type taskLogs struct {
	store *results.Store
	wake  chan struct{}

	mu    sync.Mutex
	dirty []*taskLog // those with lines that are not written
	bytes int        // of all of these lines
}

func newTaskLogs(store *results.Store) *taskLogs {
	return &taskLogs{store: store, wake: make(chan struct{}, 1)}
}

// taskLog is what an attempt logs.
type taskLog struct {
	logs *taskLogs
	id   string
	ttl  time.Duration

	// What follows is guarded by the lock of logs.
	lines [][]byte // not written
	bytes int
	lost  int  // lines that were left out since the last that was kept
	ended bool // the attempt is over
	noted bool // it is among the dirty
}

// add keeps a line, in place of the first ones when they are too many. It never
// blocks for longer than the lock is held.
func (l *taskLog) add(line []byte) {
	l.logs.mu.Lock()
	defer l.logs.mu.Unlock()
	if l.logs.bytes+len(line) > unwrittenAll {
		l.lost++
		return
	}
	l.lines = append(l.lines, line)
	l.bytes += len(line)
	l.logs.bytes += len(line)
	l.trim()
	l.note()
	if l.ended || l.bytes > unwrittenMost/2 {
		l.logs.notify()
	}
}

// trim leaves out the first lines beyond the limit. It needs the lock, as the next
// does.
func (l *taskLog) trim() {
	for l.bytes > unwrittenMost {
		l.bytes -= len(l.lines[0])
		l.logs.bytes -= len(l.lines[0])
		l.lines = l.lines[1:]
		l.lost++
	}
}

func (l *taskLog) note() {
	if !l.noted {
		l.noted = true
		l.logs.dirty = append(l.logs.dirty, l)
	}
}

// end has what is left written soon.
func (l *taskLog) end() {
	l.logs.mu.Lock()
	defer l.logs.mu.Unlock()
	l.ended = true
	if l.noted {
		l.logs.notify()
	}
}

func (t *taskLogs) notify() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and then what is left.
func (t *taskLogs) run(ctx context.Context) error {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.write(context.WithoutCancel(ctx))
			return nil
		case <-t.wake:
		case <-tick.C:
		}
		t.write(ctx)
	}
}

// unwritten is what an attempt has logged, on its way to Redis.
type unwritten struct {
	log   *taskLog
	lines [][]byte
	bytes int
	lost  int
}

// write writes everything there is, or keeps it when Redis does not answer.
func (t *taskLogs) write(ctx context.Context) {
	for {
		group := t.take()
		if len(group) == 0 {
			return
		}
		batch := make([]results.LogLines, len(group))
		for i, u := range group {
			batch[i] = results.LogLines{TaskID: u.log.id, Lines: u.lines, TTL: u.log.ttl}
			if u.lost > 0 {
				batch[i].Lines = slices.Concat([][]byte{lostLine(u.lost)}, u.lines)
			}
		}
		try, cancel := context.WithTimeout(ctx, logsTimeout)
		err := t.store.AppendLogs(try, batch)
		cancel()
		if err != nil {
			t.putBack(group)
			return // the next tick tries again
		}
		t.forget(group)
	}
}

func (t *taskLogs) take() []unwritten {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.dirty), logsTogether)
	group := make([]unwritten, 0, n)
	for _, l := range t.dirty[:n] {
		group = append(group, unwritten{log: l, lines: l.lines, bytes: l.bytes, lost: l.lost})
		l.lines, l.bytes, l.lost, l.noted = nil, 0, 0, false
	}
	t.dirty = slices.Delete(t.dirty, 0, n)
	return group
}

func (t *taskLogs) forget(group []unwritten) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range group {
		t.bytes -= u.bytes
	}
}

// putBack keeps what was not written, of attempts that have ended only so many.
func (t *taskLogs) putBack(group []unwritten) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ended := 0
	for _, l := range t.dirty {
		if l.ended {
			ended++
		}
	}
	for _, u := range group {
		l := u.log
		if l.ended && !l.noted {
			if ended++; ended > endedMost {
				t.bytes -= u.bytes
				continue
			}
		}
		l.lines = slices.Concat(u.lines, l.lines)
		l.bytes += u.bytes
		l.lost += u.lost
		l.trim()
		l.note()
	}
}

func lostLine(n int) []byte {
	return fmt.Appendf(nil, `{"time":%q,"level":"warn","message":"%d lines before this one were left out"}`, time.Now().UTC().Format(time.RFC3339Nano), n)
}

// logCore is a core of zap whose lines are kept.
type logCore struct {
	zapcore.LevelEnabler
	log *taskLog
	// plain has what all lines of the attempt have, encoder also the fields of the
	// logger.
	plain, encoder zapcore.Encoder
}

// newLogCore keeps what the worker's own log has, and information in any case.
func newLogCore(l *taskLog, own zapcore.Core, attempt int, traceID string) *logCore {
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "message", StacktraceKey: "stack", SkipLineEnding: true,
		EncodeTime:  func(t time.Time, e zapcore.PrimitiveArrayEncoder) { zapcore.RFC3339NanoTimeEncoder(t.UTC(), e) },
		EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.SecondsDurationEncoder,
	})
	encoder.AddInt("attempt", attempt)
	if traceID != "" {
		encoder.AddString("trace_id", traceID)
	}
	c := &logCore{log: l, plain: encoder.Clone(), encoder: encoder}
	c.encoder.OpenNamespace("fields")
	c.LevelEnabler = zap.LevelEnablerFunc(func(level zapcore.Level) bool { return level >= zap.InfoLevel || own.Enabled(level) })
	return c
}

// With returns a core whose lines have more fields.
func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	more := *c
	more.encoder = c.encoder.Clone()
	for _, f := range fields {
		f.AddTo(more.encoder)
	}
	return &more
}

// Check says whether a line is to be kept.
func (c *logCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write keeps a line.
func (c *logCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	text, err := c.encoder.EncodeEntry(e, fields)
	if err != nil {
		return err
	}
	if text.Len() > lineMost {
		text.Free()
		e.Message, e.Stack = bounded(e.Message, messageMost), ""
		if text, err = c.plain.EncodeEntry(e, []zapcore.Field{zap.Bool("truncated", true)}); err != nil {
			return err
		}
	}
	c.log.add(slices.Clone(text.Bytes()))
	text.Free()
	return nil
}

// Sync does nothing: lines are written when there is a group of them.
func (c *logCore) Sync() error { return nil }

// traceIDOf reads it from a traceparent (W3C Trace Context), which may be empty.
func traceIDOf(parent string) string {
	const from, to = 3, 35
	if len(parent) < to {
		return ""
	}
	return parent[from:to]
}

// keepLog returns where an attempt logs to, nil where nobody keeps it, as of a task
// that is to leave no record.
func (w *Worker) keepLog(h *handler, t *messages.Task) *taskLog {
	e := w.engine.Load()
	if e == nil || t.IgnoreResult {
		return nil
	}
	ttl := h.retention
	if t.Retention > 0 {
		ttl = t.Retention
	}
	return &taskLog{logs: e.logs, id: t.ID, ttl: ttl}
}
