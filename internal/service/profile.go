package service

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"

	"go.uber.org/zap"
)

// serveProfiles serves /debug/pprof and /log-level on addr until ctx ends. Profiles
// show what a program holds in memory, so addr has to be a loopback address.
func serveProfiles(ctx context.Context, addr string, level zap.AtomicLevel, log *zap.Logger) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("LOVAGE_PPROF_LISTEN: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && !ip.IsLoopback() {
		return fmt.Errorf("LOVAGE_PPROF_LISTEN: %s is not a loopback address; take 127.0.0.1 and forward the port", host)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("LOVAGE_PPROF_LISTEN: %w", err)
	}
	// One event in a thousand microseconds of waiting: cheap enough to leave on.
	runtime.SetBlockProfileRate(int(time.Millisecond))
	runtime.SetMutexProfileFraction(100)
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("/log-level", level)
	log.Info("profiles are served", zap.Stringer("address", listener.Addr()))
	return Serve(ctx, listener, mux)
}
