package delivery

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lovage-mq/lovage/internal/histogram"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// unknownTask is the label of every task that is not in Options.Tasks: whoever
// sends a message chooses its name.
const unknownTask = "unknown"

// metrics are what a processor counts; without a registerer nobody sees them.
type metrics struct {
	claims    map[messages.Verdict]prometheus.Counter
	lost      prometheus.Counter
	exchanged prometheus.Counter
	dead      map[messages.Reason]prometheus.Counter
	// tasks has those of every kind of task, looked up once: to count then
	// takes no memory and no lock.
	tasks map[string]*taskMetrics
}

// taskMetrics are what is counted of one kind of task.
type taskMetrics struct {
	started, retries, interrupted prometheus.Counter
	finished                      map[messages.State]prometheus.Counter
	running                       prometheus.Gauge
	ran, waited                   prometheus.Observer
}

func newMetrics(r prometheus.Registerer, tasks []string) metrics {
	claims := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lovage_claims_total", Help: "Deliveries by what their task's record said of them.",
	}, []string{"verdict"})
	dead := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lovage_dead_letters_total", Help: "Messages that became dead letters, by reason.",
	}, []string{"reason"})
	m := metrics{
		claims: map[messages.Verdict]prometheus.Counter{},
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lovage_leases_lost_total", Help: "Executions whose lease ran out and whose outcome was dropped.",
		}),
		exchanged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lovage_deliveries_exchanged_total", Help: "Deliveries of long tasks that were exchanged for a copy.",
		}),
		dead:  map[messages.Reason]prometheus.Counter{},
		tasks: map[string]*taskMetrics{},
	}
	for _, v := range []messages.Verdict{
		messages.VerdictRun, messages.VerdictBusy, messages.VerdictFinal, messages.VerdictStale, messages.VerdictCancelled,
	} {
		m.claims[v] = claims.WithLabelValues(strings.ToLower(string(v)))
	}
	for _, reason := range messages.Reasons() {
		m.dead[reason] = dead.WithLabelValues(string(reason))
	}
	if r != nil {
		r.MustRegister(claims, m.lost, m.exchanged, dead)
	}
	if len(tasks) > 0 {
		m.watch(r, append([]string{unknownTask}, tasks...))
	}
	return m
}

// watch makes the metrics of these kinds of tasks.
func (m metrics) watch(r prometheus.Registerer, tasks []string) {
	label := []string{"task"}
	started := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lovage_task_attempts_started_total", Help: "Attempts of tasks that began.",
	}, label)
	running := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "lovage_task_attempts_running", Help: "Attempts of tasks that run now.",
	}, label)
	interrupted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lovage_task_attempts_interrupted_total", Help: "Attempts that were given back, to begin again with their count of retries kept.",
	}, label)
	retries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lovage_task_retries_total", Help: "Attempts that failed and are followed by another.",
	}, label)
	finished := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lovage_tasks_finished_total", Help: "Tasks that ended, by outcome: success, failure or revoked.",
	}, []string{"task", "outcome"})
	ran := prometheus.NewHistogramVec(histogram.Opts("lovage_task_run_seconds", "How long an attempt of a task ran.",
		.005, .025, .1, .25, 1, 5, 10, 30, 60, 300, 1800, 3600), label)
	waited := prometheus.NewHistogramVec(histogram.Opts("lovage_task_queue_seconds",
		"Time from the submission of a task, or from its ETA if that is later, to the start of its first attempt.",
		.005, .025, .1, .25, 1, 5, 10, 30, 60, 300, 1800, 3600), label)
	for _, name := range tasks {
		m.tasks[name] = &taskMetrics{
			started: started.WithLabelValues(name), retries: retries.WithLabelValues(name), interrupted: interrupted.WithLabelValues(name),
			finished: map[messages.State]prometheus.Counter{},
			running:  running.WithLabelValues(name), ran: ran.WithLabelValues(name), waited: waited.WithLabelValues(name),
		}
		for _, s := range []messages.State{messages.Success, messages.Failure, messages.Revoked} {
			m.tasks[name].finished[s] = finished.WithLabelValues(name, strings.ToLower(string(s)))
		}
	}
	if r != nil {
		r.MustRegister(started, running, interrupted, retries, finished, ran, waited)
	}
}

// claimed counts the answer to a claim.
func (m metrics) claimed(v messages.Verdict) {
	if c := m.claims[v]; c != nil {
		c.Inc()
	}
}

// lose counts an execution whose task is another's by now, once.
func (m metrics) lose(t *task) {
	if !t.lost {
		t.lost = true
		m.lost.Inc()
	}
}

// died counts a dead letter.
func (m metrics) died(reason messages.Reason) {
	if c := m.dead[reason]; c != nil {
		c.Inc()
	}
}

// of returns the metrics of a kind of task, nil where none are kept.
func (m metrics) of(task string) *taskMetrics {
	if found := m.tasks[task]; found != nil {
		return found
	}
	return m.tasks[unknownTask]
}

// run runs a handler and counts that it does.
func (m *taskMetrics) run(work context.Context, t *task, handle Handler, progress ProgressFunc) Outcome {
	if m == nil {
		return handle(work, t.Task, progress)
	}
	begun := time.Now()
	if t.Retries == 0 && t.Run == 0 && t.claim.Starts == 1 {
		m.waited.Observe(max(0, begun.Sub(due(t)).Seconds())) // clocks differ
	}
	m.started.Inc()
	m.running.Inc()
	defer m.running.Dec()
	o := handle(work, t.Task, progress)
	m.ran.Observe(time.Since(begun).Seconds())
	if o.State == "" {
		m.interrupted.Inc()
	}
	return o
}

// settled counts an outcome that is stored.
func (m *taskMetrics) settled(s messages.State) {
	switch {
	case m == nil:
	case s == messages.Retry:
		m.retries.Inc()
	case m.finished[s] != nil:
		m.finished[s].Inc()
	}
}

// due is when a task could have begun.
func due(t *task) time.Time {
	if at := created(t); at.After(t.ETA) {
		return at
	}
	return t.ETA
}
