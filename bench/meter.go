package main

import (
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/procfs"
	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// meter reads how much processor time the processes of a contender use between
// two marks. What a submission costs hardly depends on how busy the machine is
// otherwise, so of all figures this one is the most steady.
type meter struct {
	processes []metered
	marks     []mark
	err       error
}

type metered struct {
	name string
	pid  int
}

// othersSuffix ends the names of the measures of what else was going on.
const othersSuffix = "-others"

// mark is what was used up to a moment.
type mark struct {
	at        time.Time
	machine   time.Duration
	processes []time.Duration
}

func newMeter(s *stack.Stack, v *stack.Service) *meter {
	return &meter{processes: []metered{
		{"service", v.PID()},
		{"rabbitmq", s.RabbitMQ.PID()},
		{"redis", s.Redis.PID()},
		{"load", os.Getpid()},
	}}
}

// mark is called at the beginning and at the end.
func (m *meter) mark() {
	now := mark{at: time.Now()}
	var err error
	now.machine, err = procfs.Machine()
	m.err = errors.Join(m.err, err)
	for _, p := range m.processes {
		used, err := procfs.CPU(p.pid)
		m.err = errors.Join(m.err, err)
		now.processes = append(now.processes, used)
	}
	m.marks = append(m.marks, now)
}

// add takes down what each of n submissions has cost: in each process, and in
// all of them. What else was going on takes away from the throughput, so that is
// taken down too, as a share of all processors.
func (m *meter) add(b *report.Book, measure, contender string, n int64) {
	begin, end := m.marks[0], m.marks[1]
	var all time.Duration
	for i, p := range m.processes {
		used := end.processes[i] - begin.processes[i]
		b.Add(measure+"-cpu-"+p.name, contender, "µs", each(used, n))
		all += used
	}
	b.Add(measure+"-cpu", contender, "µs", each(all, n))
	others := end.machine - begin.machine - all
	processors := end.at.Sub(begin.at) * time.Duration(runtime.NumCPU())
	b.Add(measure+othersSuffix, contender, "%", 100*max(0, others.Seconds()/processors.Seconds()))
}

func each(used time.Duration, n int64) float64 { return float64(used.Microseconds()) / float64(n) }
