package api

import (
	"context"
	"net/http"
)

const (
	routeLive  = "/livez"
	routeReady = "/readyz"
	// RouteMetrics is served by the program around the API.
	RouteMetrics = "/metrics"
)

// health is what the probes answer.
type health struct {
	Status   string `json:"status" doc:"ok, or draining while the server stops."`
	RabbitMQ string `json:"rabbitmq" doc:"up, blocked or down."`
	Redis    string `json:"redis" doc:"up, down, or unknown before the first answer."`
	Catalog  string `json:"catalog" doc:"loaded, or missing while it was never read."`
	Tasks    int    `json:"tasks" doc:"Kinds of tasks in the catalog."`
	Version  string `json:"version" doc:"Version of the gateway."`
}

// alive is what /livez answers.
type alive struct {
	Status string `json:"status" doc:"ok"`
}

// live says that the process answers, and nothing about anybody else.
func (a *API) live(context.Context, *call) (*reply, error) {
	return jsonReply(http.StatusOK, alive{Status: "ok"})
}

// ready says whether requests should come here. RabbitMQ and Redis are
// reported, not obeyed: where every replica fails its probe because of one
// dependency, the outage of that becomes an outage of everything. It waits for
// nobody.
func (a *API) ready(context.Context, *call) (*reply, error) {
	h := health{Status: "ok", RabbitMQ: a.opts.Publisher.State(), Redis: a.catalog.redis(), Catalog: "missing", Version: a.opts.Version}
	if s := a.catalog.current.Load(); s != nil {
		h.Catalog, h.Tasks = "loaded", len(s.names)
	}
	status := http.StatusOK
	select {
	case <-a.draining:
		h.Status, status = "draining", http.StatusServiceUnavailable
	default:
	}
	return jsonReply(status, h)
}
