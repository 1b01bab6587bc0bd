// Package peer makes a program of a task system written in Go: one that takes
// tasks over HTTP, or one that works them off.
package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/bench/internal/runner"
)

// Sender takes tasks.
type Sender interface {
	// Submit returns the id of a task that is sure to run.
	Submit(ctx context.Context, in runner.Input) (id string, err error)
	// Fill submits many, in the fastest way that there is.
	Fill(ctx context.Context, n int, in runner.Input) error
	// Wait returns when the result of a task is there.
	Wait(ctx context.Context, id string) error
}

// Handler is what a task does; attempt is 1 for the first one.
type Handler func(ctx context.Context, id string, attempt int) error

// Worker runs tasks.
type Worker interface {
	// Work runs tasks until ctx ends, at most so many at the same time, and stores
	// their results.
	Work(ctx context.Context, slots int, handle Handler) error
	// Stored is how many results there are.
	Stored(ctx context.Context) (int64, error)
}

// System is a task system.
type System interface {
	Sender
	Worker
}

type settings struct {
	Listen   string  `required:"" help:"Address to serve HTTP on."`
	URL      string  `required:"" help:"Where the tasks are kept."`
	Messages int64   `help:"How many tasks there are to work off."`
	Slots    int     `help:"Slots of a worker; none to take tasks over HTTP."`
	Kind     string  `default:"noop" help:"What the tasks do."`
	Bytes    int     `help:"How much tasks of the kind cpu hash."`
	Rate     float64 `help:"Send the tasks, so many a second, and measure until each begins."`
}

// Main is the program. It returns the status to exit with.
func Main(open func(ctx context.Context, url string) (System, error)) int {
	var s settings
	kong.Parse(&s)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, s, open)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(ctx context.Context, s settings, open func(ctx context.Context, url string) (System, error)) error {
	system, err := open(ctx, s.URL)
	if err != nil {
		return err
	}
	if s.Slots == 0 {
		return serve(ctx, s.Listen, system)
	}
	var progress runner.Progress
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return progress.Serve(ctx, s.Listen) })
	if s.Rate > 0 {
		pickUp(ctx, g, s, system, &progress)
	} else {
		drain(ctx, g, s, system, &progress)
	}
	return g.Wait()
}

// drain works off what is there.
func drain(ctx context.Context, g *errgroup.Group, s settings, w Worker, progress *runner.Progress) {
	task := &runner.Task{Kind: s.Kind, Bytes: s.Bytes}
	g.Go(func() error {
		return w.Work(ctx, s.Slots, func(ctx context.Context, _ string, attempt int) error {
			progress.Started()
			err := task.Do(ctx, attempt)
			if err == nil {
				progress.Done.Add(1)
			}
			return err
		})
	})
	g.Go(func() error {
		return progress.Await(ctx, s.Messages, func() (bool, error) {
			n, err := w.Stored(ctx)
			return n >= s.Messages, err
		})
	})
}

// pickUp measures how soon tasks begin.
func pickUp(ctx context.Context, g *errgroup.Group, s settings, system System, progress *runner.Progress) {
	p := &runner.PickUp{Tasks: s.Messages, Rate: s.Rate, Slots: s.Slots}
	g.Go(func() error {
		return system.Work(ctx, s.Slots, func(ctx context.Context, id string, _ int) error {
			p.Handle(ctx, id)
			return nil
		})
	})
	g.Go(func() error {
		in := runner.InputOf(runner.Noop)
		err := p.Send(ctx, func(ctx context.Context) (string, error) { return system.Submit(ctx, in) })
		if err == nil {
			progress.Tell(p.Result())
		}
		return err
	})
}

// serve takes tasks over HTTP until ctx ends.
func serve(ctx context.Context, listen string, to Sender) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	srv := &http.Server{Handler: handler(to), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func handler(to Sender) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /submit", func(w http.ResponseWriter, r *http.Request) { submit(w, r, to, false) })
	mux.HandleFunc("POST /run", func(w http.ResponseWriter, r *http.Request) { submit(w, r, to, true) })
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("messages"))
		if err == nil {
			err = to.Fill(r.Context(), n, runner.InputOf(r.URL.Query().Get("kind")))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

// submit takes one task and answers with its id: 202, or 200 once its result is
// there.
func submit(w http.ResponseWriter, r *http.Request, to Sender, wait bool) {
	var in runner.Input
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, err := to.Submit(r.Context(), in)
	status := http.StatusAccepted
	if err == nil && wait {
		status = http.StatusOK
		err = to.Wait(r.Context(), id)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body, _ := json.Marshal(map[string]string{"task_id": id}) // a map of strings always encodes
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
