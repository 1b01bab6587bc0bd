package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// profiledFor is how long the profile of the processors is taken.
const profiledFor = 10 * time.Second

// profile leaves profiles of the gateway and of a worker under load beside the
// medians.
func (b *bench) profile(ctx context.Context) error {
	return errors.Join(b.profileGateway(ctx), b.profileWorker(ctx))
}

func (b *bench) profileGateway(ctx context.Context) error {
	if err := b.stack.Clear(ctx, stack.Queue); err != nil {
		return err
	}
	address, err := stack.FreeAddress(ctx)
	if err != nil {
		return err
	}
	v, err := b.stack.Gateway(ctx, "LOVAGE_PPROF_LISTEN="+address)
	if err != nil {
		return err
	}
	progress("profile: the gateway, with %d clients", manyClients)
	g, loading := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := load.Closed{
			Address: v.Address, Request: load.Request(v.Address, stack.TaskPath, stack.Input), Status: http.StatusAccepted,
			Clients: manyClients, Warm: b.WarmUp, Length: profiledFor + 3*time.Second, Mark: func() {},
		}.Run(loading)
		return err
	})
	g.Go(func() error { return b.profiles(loading, "gateway", address) })
	return errors.Join(g.Wait(), v.End())
}

func (b *bench) profileWorker(ctx context.Context) error {
	if err := b.stack.Clear(ctx, stack.Queue); err != nil {
		return err
	}
	progress("profile: a worker with %d slots; its queue is filled with %d tasks", manySlots, b.Items)
	if err := stack.FillOurs(ctx, b.gateway, runner.Noop, b.Items); err != nil {
		return err
	}
	address, err := stack.FreeAddress(ctx)
	if err != nil {
		return err
	}
	w := stack.Work{Tasks: b.Items, Kind: runner.Noop, Slots: manySlots, Env: []string{"LOVAGE_PPROF_LISTEN=" + address}}
	v, err := b.stack.Drainer(ctx, w)
	if err != nil {
		return err
	}
	err = b.profiles(ctx, "worker", address)
	if left, wrong := b.stack.Depth(stack.Queue); wrong == nil && left == 0 {
		progress("profile: the queue was empty before the end; more --items show more")
	}
	return errors.Join(err, v.End())
}

// profiles writes all profiles of a program.
func (b *bench) profiles(ctx context.Context, name, address string) error {
	if err := os.MkdirAll(filepath.Dir(b.Out), 0o755); err != nil {
		return err
	}
	for _, p := range []struct{ name, path string }{
		{"cpu", fmt.Sprintf("profile?seconds=%d", int(profiledFor.Seconds()))},
		{"heap", "heap"},
		{"mutex", "mutex"},
		{"block", "block"},
	} {
		path := filepath.Join(filepath.Dir(b.Out), name+"-"+p.name+".pprof")
		err := writeFile(path, func(w io.Writer) error { return fetch(ctx, w, "http://"+address+"/debug/pprof/"+p.path) })
		if err != nil {
			return fmt.Errorf("profile of %s: %w", name, err)
		}
		progress("profile: %s", path)
	}
	return nil
}

func fetch(ctx context.Context, w io.Writer, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, res.Status)
	}
	_, err = io.Copy(w, res.Body)
	return err
}
