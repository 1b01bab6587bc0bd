package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

const (
	// headerTimeout is for the head of a request, readTimeout for all of it.
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	// writeTimeout is what a client has to take its answer, on top of all that
	// the answer may be waited for. A batch has deadlines of its own.
	writeTimeout = 30 * time.Second
	idleTimeout  = 2 * time.Minute
	maxHeader    = 32 << 10
	stopTimeout  = 30 * time.Second
	// maxStreams is how many requests one connection of HTTP/2 may have open.
	maxStreams = 250
	// longestWait is the most that "Prefer: wait" gives a client.
	longestWait = time.Minute
)

// server is the HTTP side of the gateway.
type server struct {
	Config
	listener *boundedListener
	api      *api.API
	login    http.Handler // nil without keys
	console  http.Handler
	metrics  prometheus.Gatherer
	log      *zap.Logger
	// connections are those that are open, draining is set when no client is
	// to send another request on its connection.
	connections atomic.Int64
	draining    atomic.Bool
}

// newServer returns a server that counts its connections in r.
func newServer(c Config, l net.Listener, a *api.API, login, console http.Handler, r *prometheus.Registry, log *zap.Logger) *server {
	s := &server{
		Config: c, listener: newBoundedListener(l, c.MaxConnections), api: a,
		login: login, console: a.Guard(api.ConsolePath, access.Read, console), metrics: r, log: log,
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lovage_http_connections", Help: "Connections of clients that are open.",
	}, func() float64 { return float64(s.connections.Load()) }))
	return s
}

// serve answers requests until ctx ends, or until something behind the API has
// failed.
func (s *server) serve(ctx, behind context.Context) error {
	publish := max(s.PublishTimeout, s.MaxPublishTimeout)
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + publish + longestWait + writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ConnState:         s.count,
		ErrorLog:          zap.NewStdLog(s.log.Named("http")),
	}
	served := make(chan error, 1)
	if s.TLSCertFile != "" {
		cert, err := newCertificate(s.TLSCertFile, s.TLSKeyFile, s.log)
		if err != nil {
			return fmt.Errorf("LOVAGE_TLS_CERT_FILE, LOVAGE_TLS_KEY_FILE: %w", err)
		}
		srv.TLSConfig = cert.config()
		go func() { served <- srv.ServeTLS(s.listener, "", "") }()
	} else {
		go func() { served <- srv.Serve(s.listener) }()
	}
	s.log.Info("gateway listens", zap.Stringer("address", s.listener.Addr()), zap.Bool("tls", s.TLSCertFile != ""))
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-behind.Done():
	case <-ctx.Done():
		s.drain(behind)
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(stopTimeout, publish))
	defer cancel()
	err := srv.Shutdown(stopping)
	s.api.Rest(stopping)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// drain goes on serving for a while, so that nobody is there any more when the
// listener closes: whoever asks /readyz looks elsewhere, and whoever comes all
// the same is told with the answer that the connection ends.
func (s *server) drain(behind context.Context) {
	s.log.Info("gateway stops")
	s.draining.Store(true)
	s.api.Drain()
	wait := time.NewTimer(s.ShutdownDelay)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-behind.Done():
	}
}

func (s *server) count(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.connections.Add(1)
	}
	if state == http.StateClosed {
		s.connections.Add(-1)
		s.listener.release()
	}
}

// handler serves /metrics beside the API. Like the probes it is asked by
// address and not by name.
func (s *server) handler() http.Handler {
	exposed := s.api.Guard(api.RouteMetrics, access.Read, promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		if r.Method == http.MethodGet && r.Header.Get("Prefer") == "" {
			// Nothing is waited for, and only these answers can be so large
			// that they wait for the client.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		if r.URL.Path == api.RouteMetrics {
			exposed.ServeHTTP(w, r)
			return
		}
		if s.login != nil && (r.URL.Path == api.LoginPath || r.URL.Path == api.LogoutPath) {
			s.login.ServeHTTP(w, r)
			return
		}
		if api.InConsole(r.URL.Path) {
			s.console.ServeHTTP(w, r)
			return
		}
		s.api.ServeHTTP(w, r)
	})
}
