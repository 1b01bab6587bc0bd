package service

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry with the metrics that every program has: those
// of the Go runtime, of the process and of its spans, which may be nil.
func NewRegistry(spans *Tracing) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "lovage_spans_dropped_total", Help: "Spans that were not exported, because too many waited or the collector did not take them.",
		}, func() float64 { return float64(spans.Dropped()) }))
	return r
}
