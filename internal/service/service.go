// Package service holds what the programs have in common: the logger, the
// signals, the metrics and the health check of a container.
package service

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
)

// The garbage collector begins when the heap has grown by gcPercent since the
// last time, ballast included. That is memory which is never touched, so it
// takes none of the machine's. Together they let a heap of any size grow by
// little more than so many bytes: Go's own rule collects the few megabytes of a
// busy gateway dozens of times a second, for a tenth of its processor time, and
// lets a large heap grow to twice its size.
const (
	gcPercent  = 25
	heapGrowth = 10 << 20
)

// WorkerHeapGrowth is for [Options.WithHeapGrowth] of workers. They have more to
// collect for each task than a gateway has, and nobody promises that many tasks
// take little memory.
const WorkerHeapGrowth = 40 << 20

// Options are what every program can be told.
type Options struct {
	LogLevel  string `name:"log-level" env:"LOVAGE_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"Lowest level that is logged: ${enum}."`
	LogFormat string `name:"log-format" env:"LOVAGE_LOG_FORMAT" default:"json" enum:"json,console" help:"Format of the log: ${enum}."`

	PprofListen string `name:"pprof-listen" env:"LOVAGE_PPROF_LISTEN" help:"Loopback address that serves Go profiles under /debug/pprof; none by default."`

	growth int
}

// WithHeapGrowth has the program collect its heap when it has grown by so many
// bytes, which are 10 MB otherwise.
func (o Options) WithHeapGrowth(bytes int) Options {
	o.growth = bytes
	return o
}

// logger builds the logger, and the level that it has for now. Nothing is sampled:
// a line that is missing under load is missed most.
func (o Options) logger() (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(o.LogLevel)
	if err != nil {
		return nil, level, fmt.Errorf("LOVAGE_LOG_LEVEL: %w", err)
	}
	cfg := zap.NewProductionConfig()
	if o.LogFormat == "console" {
		cfg = zap.NewDevelopmentConfig()
		cfg.Development = false
	}
	cfg.Level = level
	cfg.Sampling = nil
	cfg.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	cfg.DisableStacktrace = true
	log, err := cfg.Build()
	return log, level, err
}

// Run runs a program until SIGINT or SIGTERM and returns its exit code. A
// second signal ends it at once.
func (o Options) Run(run func(ctx context.Context, log *zap.Logger) error) int {
	log, level, err := o.logger()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		untouched := make([]byte, cmp.Or(o.growth, heapGrowth)*100/gcPercent)
		defer runtime.KeepAlive(untouched)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // back to the default: the next signal kills
	defer switchLevel(level, log)()
	err = o.run(ctx, run, level, log)
	if err != nil {
		log.Error("stopped with an error", zap.Error(err))
	}
	_ = log.Sync() // standard error cannot be synced on every system
	if err != nil {
		return 1
	}
	return 0
}

// run runs a program, with its profiles beside it.
func (o Options) run(ctx context.Context, program func(context.Context, *zap.Logger) error, level zap.AtomicLevel, log *zap.Logger) error {
	if o.PprofListen == "" {
		return program(ctx, log)
	}
	g, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	g.Go(func() error { return serveProfiles(ctx, o.PprofListen, level, log) })
	g.Go(func() error {
		defer stop()
		return program(ctx, log)
	})
	return g.Wait()
}

// Healthy asks a program that listens on addr, with TLS or without it, whether it
// is alive. Which certificate it shows does not matter for that.
func Healthy(ctx context.Context, addr string, overTLS bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--listen (LOVAGE_LISTEN) has to name the address that the program listens on: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	scheme, transport := "http", &http.Transport{}
	if overTLS {
		scheme, transport.TLSClientConfig = "https", &tls.Config{InsecureSkipVerify: true}
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+"/livez", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("/livez answered %s", res.Status)
	}
	return nil
}
