// Command worker is the worker that ships with Lovage: it runs the built-in
// tasks.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/services/worker/internal/app"
)

type cli struct {
	service.Options
	app.Config
	Serve  struct{} `cmd:"" default:"1" help:"Take tasks until SIGTERM (the default)."`
	Health struct{} `cmd:"" help:"Exit with 0 when the worker that listens on --listen is alive, else with 1."`
}

func main() { os.Exit(run()) }

func run() int {
	var c cli
	k := kong.Parse(&c, kong.Name("worker"), kong.Description("Runs Lovage's built-in tasks."))
	if k.Command() == "health" {
		if err := service.Healthy(context.Background(), c.Listen, false); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return c.Run(func(ctx context.Context, log *zap.Logger) error { return app.Run(ctx, c.Config, log) })
}
