package worker

import (
	"bytes"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// runs are the attempts that run now.
type runs struct {
	mu  sync.Mutex
	now map[*run]struct{}
}

type run struct {
	task    *messages.Task
	started time.Time
}

func newRuns() *runs { return &runs{now: map[*run]struct{}{}} }

// enter adds an attempt until it is passed to leave.
func (r *runs) enter(t *messages.Task) *run {
	one := &run{task: t, started: time.Now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now[one] = struct{}{}
	return one
}

func (r *runs) leave(one *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.now, one)
}

// longest lists those that have run for longest, the longest first.
func (r *runs) longest(most int) []messages.RunningTask {
	r.mu.Lock()
	all := make([]*run, 0, len(r.now))
	for one := range r.now {
		all = append(all, one)
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b *run) int { return a.started.Compare(b.started) })
	out := make([]messages.RunningTask, 0, min(len(all), most))
	for _, one := range all[:min(len(all), most)] {
		out = append(out, messages.RunningTask{
			TaskID: one.task.ID, Name: one.task.Name, Queue: one.task.Queue, Attempt: one.task.Retries + 1,
			Started: one.started.UTC(), Seconds: time.Since(one.started).Seconds(),
		})
	}
	return out
}

// memory asks no more than what is counted anyway: a sign of life stops nothing.
func memory() messages.WorkerMemory {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	m := messages.WorkerMemory{RSS: residentSet()}
	if heap[0].Value.Kind() == metrics.KindUint64 {
		m.Heap = int64(heap[0].Value.Uint64())
	}
	return m
}

// residentSet is 0 where there is no /proc/self/statm (proc(5)): its second number
// is in pages.
func residentSet() int64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	text, err := os.ReadFile("/proc/self/statm")
	if fields := bytes.Fields(text); err == nil && len(fields) > 1 {
		pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}
