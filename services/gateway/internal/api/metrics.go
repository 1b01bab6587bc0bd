package api

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lovage-mq/lovage/internal/histogram"
)

// metrics are what the API counts. Labels come from fixed lists: routes,
// methods, status codes and the slugs of the problems.
type metrics struct {
	requests    *prometheus.HistogramVec
	submissions *prometheus.CounterVec
	accepted    prometheus.Counter
	// byAnswer holds what requests has for an answerKind: to look that up there
	// takes several times as long.
	byAnswer sync.Map
}

type answerKind struct {
	route, method string
	status        int
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(histogram.Opts("lovage_http_request_seconds", "Time to answer a request.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10), []string{"route", "method", "code"}),
		submissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lovage_submissions_total", Help: "Submissions by outcome: accepted, or the problem they were answered with.",
		}, []string{"outcome"}),
	}
	m.accepted = m.submissions.WithLabelValues(accepted)
	if r != nil {
		r.MustRegister(m.requests, m.submissions)
	}
	return m
}

// show lets the limit be seen.
func (l *limiter) show(r prometheus.Registerer) {
	if r == nil {
		return
	}
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lovage_submissions_limit", Help: "How many submissions may be in flight at present; further ones are refused as overloaded.",
		}, func() float64 { limit, _ := l.state(); return limit }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lovage_submissions_in_flight", Help: "Submissions of the last two seconds that wait for the broker's word; items of batches do not count.",
		}, func() float64 { _, inFlight := l.state(); return float64(inFlight) }),
	)
}

// show lets it be seen whether Redis answers.
func (c *catalog) show(r prometheus.Registerer) {
	if r == nil {
		return
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lovage_redis_up", Help: "1 while Redis answers, else 0.",
	}, func() float64 {
		if c.redis() == "up" {
			return 1
		}
		return 0
	}))
}

// show lets it be seen how many streams are open.
func (s *streams) show(r prometheus.Registerer) {
	if r == nil {
		return
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lovage_event_streams", Help: "Event streams that are open; further ones than LOVAGE_MAX_STREAMS are refused.",
	}, func() float64 { return float64(s.count()) }))
}

// accepted is the outcome of a submission without a problem.
const accepted = "accepted"

// observe counts one answer. What has no route is not worth a label, and how
// long a client listens is no time to answer.
func (m *metrics) observe(method string, status int, x *exchange, took time.Duration) {
	if x.route == "" || x.stream && x.problem == nil {
		return
	}
	kind := answerKind{x.route, method, status}
	observer, found := m.byAnswer.Load(kind)
	if !found {
		observer, _ = m.byAnswer.LoadOrStore(kind, m.requests.WithLabelValues(x.route, method, strconv.Itoa(status)))
	}
	observer.(prometheus.Observer).Observe(took.Seconds())
	if method == http.MethodPost && (x.route == routeTasks || x.route == routeNamed) {
		m.submitted(x.problem)
	}
}

// submitted counts one submission.
func (m *metrics) submitted(p *problem) {
	if p == nil {
		m.accepted.Inc()
		return
	}
	m.submissions.WithLabelValues(string(p.kind)).Inc()
}
