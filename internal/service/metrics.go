package service

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lovage-mq/lovage/internal/version"
)

// NewRegistry returns a registry with the metrics that every program has: those
// of the Go runtime, of the process, of its build and of its spans, which may be
// nil.
func NewRegistry(spans *Tracing) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "lovage_build_info", Help: "1, with the version of the program and of Go.",
		ConstLabels: prometheus.Labels{"version": version.String(), "goversion": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "lovage_spans_dropped_total", Help: "Spans that were not exported, because too many waited or the collector did not take them.",
		}, func() float64 { return float64(spans.Dropped()) }))
	return r
}
