package worker

import (
	"github.com/prometheus/client_golang/prometheus"
)

// show lets the slots be seen, what is held for them, and how RabbitMQ and Redis
// are. Nil is nobody.
func (e *engine) show(r prometheus.Registerer) {
	if r == nil {
		return
	}
	gauge := func(name, help string, labels prometheus.Labels, read func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read))
	}
	status := e.worker.Status
	gauge("lovage_worker_slots", "How many tasks may run at the same time.", nil, func() float64 { return float64(status().Slots) })
	gauge("lovage_worker_slots_busy", "Slots that are taken: by tasks that run, are claimed or have an outcome to be stored.", nil,
		func() float64 { return float64(status().Busy) })
	gauge("lovage_worker_handlers_abandoned", "Handlers that ignored the end of their context and still run, without a slot.", nil,
		func() float64 { return float64(e.worker.Abandoned()) })
	gauge("lovage_worker_consuming", "1 while RabbitMQ delivers to the worker, else 0.", nil,
		func() float64 { return oneIf(e.consumer.Connected()) })
	gauge("lovage_redis_up", "1 while Redis answers, else 0.", nil, func() float64 { return oneIf(e.redisUp.Load()) })
	for queue, held := range e.held {
		gauge("lovage_worker_deliveries_held", "Deliveries that wait for a slot or have one, by queue.", prometheus.Labels{"queue": queue},
			func() float64 { return float64(held.Load()) })
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
