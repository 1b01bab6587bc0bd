// Command worker is the worker that ships with Lovage: it runs the built-in
// tasks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/services/worker/internal/app"
)

type cli struct {
	service.Options
	app.Config
	PrintConfig bool `name:"print-config" help:"Print the settings that are in force, with secrets hidden, say what is wrong with them, and end."`

	Serve  struct{} `cmd:"" default:"1" help:"Take tasks until SIGTERM (the default)."`
	Health struct{} `cmd:"" help:"Exit with 0 when the worker that listens on --listen is alive, else with 1."`
}

func main() { os.Exit(run()) }

func run() int {
	var c cli
	command, err := service.Parse(&c, "worker", "Runs Lovage's built-in tasks.", os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case c.PrintConfig:
		err = errors.Join(service.PrintConfig(os.Stdout, &c), err)
	case err != nil:
	case command == "health":
		err = service.Healthy(context.Background(), c.Listen, false)
	default:
		return c.WithHeapGrowth(service.WorkerHeapGrowth).Run(func(ctx context.Context, log *zap.Logger) error { return app.Run(ctx, c.Config, log) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
