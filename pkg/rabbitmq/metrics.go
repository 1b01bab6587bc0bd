package rabbitmq

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lovage-mq/lovage/internal/histogram"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// outcomes are the values of the label "outcome", from a fixed list: an error's
// text never becomes a label.
func outcomes() []struct {
	name string
	err  error
} {
	return []struct {
		name string
		err  error
	}{
		{"unconfirmed", messages.ErrUnconfirmed},
		{"broker-unavailable", messages.ErrBrokerUnavailable},
		{"not-sent", messages.ErrNotSent},
		{"queue-missing", messages.ErrQueueMissing},
		{"queue-unavailable", messages.ErrQueueUnavailable},
		{"refused", messages.ErrRefused},
		{"overloaded", messages.ErrOverloaded},
	}
}

// metrics are what a publisher counts. The zero registerer keeps them unseen.
type metrics struct {
	published  *prometheus.CounterVec
	latency    prometheus.Histogram
	reconnects prometheus.Counter
	overdue    prometheus.Counter
	resends    prometheus.Counter
}

func newMetrics(p *Publisher, r prometheus.Registerer) *metrics {
	m := &metrics{
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lovage_publish_total", Help: "Publishes by outcome.",
		}, []string{"outcome"}),
		latency: prometheus.NewHistogram(histogram.Opts("lovage_publish_seconds", "Time from the call to the broker's confirm.",
			.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5)),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lovage_broker_connections_total", Help: "Connections that the publisher has opened.",
		}),
		overdue: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lovage_confirms_overdue_total", Help: "How often a connection was given up because confirms were overdue.",
		}),
		resends: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lovage_publish_resends_total", Help: "Messages sent a second time because their connection broke.",
		}),
	}
	m.published.WithLabelValues("confirmed")
	m.published.WithLabelValues("invalid")
	for _, o := range outcomes() {
		m.published.WithLabelValues(o.name)
	}
	if r == nil {
		return m
	}
	r.MustRegister(m.published, m.latency, m.reconnects, m.overdue, m.resends,
		gauge("lovage_publish_in_flight", "Messages handed over and not settled.", nil, func() float64 { return float64(len(p.tokens)) }),
		gauge("lovage_publish_waiting", "Messages that wait to be written.", nil, func() float64 { return float64(p.waiting()) }),
		gauge("lovage_queues_ill", "Queues that confirm nothing and take one message at a time.", nil, func() float64 { return float64(p.targets.ill()) }),
	)
	for _, state := range []string{"up", "blocked", "down"} {
		r.MustRegister(gauge("lovage_broker_state", "1 for the state that the broker is in.", prometheus.Labels{"state": state}, func() float64 {
			if p.State() == state {
				return 1
			}
			return 0
		}))
	}
	return m
}

func gauge(name, help string, labels prometheus.Labels, fn func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, fn)
}

// observe counts one publish.
func (m *metrics) observe(begun time.Time, err error) {
	if err == nil {
		m.latency.Observe(time.Since(begun).Seconds())
		m.published.WithLabelValues("confirmed").Inc()
		return
	}
	for _, o := range outcomes() {
		if errors.Is(err, o.err) {
			m.published.WithLabelValues(o.name).Inc()
			return
		}
	}
	m.published.WithLabelValues("invalid").Inc()
}
