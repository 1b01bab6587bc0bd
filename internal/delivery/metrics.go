package delivery

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// metrics are what a processor counts; without a registerer nobody sees them.
type metrics struct {
	claims    map[messages.Verdict]prometheus.Counter
	lost      prometheus.Counter
	exchanged prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	claims := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lovage_claims_total", Help: "Deliveries by what their task's record said of them.",
	}, []string{"verdict"})
	m := metrics{
		claims: map[messages.Verdict]prometheus.Counter{},
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lovage_leases_lost_total", Help: "Executions whose lease ran out and whose outcome was dropped.",
		}),
		exchanged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lovage_deliveries_exchanged_total", Help: "Deliveries of long tasks that were exchanged for a copy.",
		}),
	}
	for _, v := range []messages.Verdict{
		messages.VerdictRun, messages.VerdictBusy, messages.VerdictFinal, messages.VerdictStale, messages.VerdictCancelled,
	} {
		m.claims[v] = claims.WithLabelValues(strings.ToLower(string(v)))
	}
	if r != nil {
		r.MustRegister(claims, m.lost, m.exchanged)
	}
	return m
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
