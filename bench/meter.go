package main

import (
	"errors"
	"os"
	"runtime"
	"strings"
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

// metered are processes that count as one.
type metered struct {
	name string
	used func() (time.Duration, error)
}

// Ends of the names of measures: the processor time of a submission, and what
// else was going on.
const (
	cpuSuffix    = "-cpu"
	othersSuffix = "-others"
)

// mark is what was used up to a moment.
type mark struct {
	at        time.Time
	machine   time.Duration
	processes []time.Duration
}

// Where the programs of a contender, and the clients, are among the processes.
const serviceProcess, loadProcess = 0, 3

// newMeter reads the processes of services, which count as one, with all that
// those have started, and the servers.
func newMeter(s *stack.Stack, services ...*stack.Service) *meter {
	m := &meter{processes: []metered{
		{"service", func() (sum time.Duration, err error) {
			for _, v := range services {
				used, wrong := procfs.TreeCPU(v.PID())
				sum += used
				err = errors.Join(err, wrong)
			}
			return sum, err
		}},
		{"rabbitmq", func() (time.Duration, error) { return procfs.CPU(s.RabbitMQ.PID()) }},
		{"redis", func() (time.Duration, error) { return procfs.CPU(s.Redis.PID()) }},
		{"load", func() (time.Duration, error) { return procfs.CPU(os.Getpid()) }},
	}}
	if pid := s.PostgresPID(); pid != 0 {
		m.processes = append(m.processes, metered{"postgres", func() (time.Duration, error) { return procfs.TreeCPU(pid) }})
	}
	return m
}

// mark is called at the beginning and at the end.
func (m *meter) mark() {
	now := mark{at: time.Now()}
	var err error
	now.machine, err = procfs.Machine()
	m.err = errors.Join(m.err, err)
	for _, p := range m.processes {
		used, err := p.used()
		m.err = errors.Join(m.err, err)
		now.processes = append(now.processes, used)
	}
	m.marks = append(m.marks, now)
}

// add takes down what each of n submissions has cost: in each process, and in
// all of them; the latter alone where the measure repeats another one.
func (m *meter) add(b *report.Book, measure, contender string, n int64) {
	if repeats(measure) {
		m.addAll(b, measure, contender, n)
		return
	}
	for i, p := range m.processes {
		b.Add(measure+"-cpu-"+p.name, contender, "µs", each(m.used(i), n))
	}
	if rest := m.all() - m.used(loadProcess); rest > 0 {
		b.Add(measure+"-cpu-own", contender, "%", 100*m.used(serviceProcess).Seconds()/rest.Seconds())
	}
	m.addAll(b, measure, contender, n)
}

// repeats tells the measures that are others under different circumstances.
func repeats(measure string) bool {
	return strings.HasPrefix(measure, farMeasure) || strings.HasPrefix(measure, workersMeasure)
}

// addAll takes down the cost in all processes. What else was going on takes away
// from the throughput, so that is taken down too, as a share of all processors.
func (m *meter) addAll(b *report.Book, measure, contender string, n int64) {
	begin, end := m.marks[0], m.marks[1]
	others := end.machine - begin.machine - m.all()
	processors := end.at.Sub(begin.at) * time.Duration(runtime.NumCPU())
	b.Add(measure+cpuSuffix, contender, "µs", each(m.all(), n))
	b.Add(measure+othersSuffix, contender, "%", 100*max(0, others.Seconds()/processors.Seconds()))
}

// all is what all processes have used between the marks.
func (m *meter) all() (sum time.Duration) {
	for i := range m.processes {
		sum += m.used(i)
	}
	return sum
}

// used is what a process has used between the marks.
func (m *meter) used(process int) time.Duration {
	return m.marks[1].processes[process] - m.marks[0].processes[process]
}

func each(used time.Duration, n int64) float64 { return float64(used.Microseconds()) / float64(n) }
