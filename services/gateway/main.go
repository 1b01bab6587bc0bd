// Command gateway is Lovage's HTTP API.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/services/gateway/internal/app"
)

type cli struct {
	service.Options
	app.Config
	Serve  struct{} `cmd:"" default:"1" help:"Serve the HTTP API until SIGTERM (the default)."`
	Health struct{} `cmd:"" help:"Exit with 0 when the gateway that listens on --listen is alive, else with 1."`
}

func main() { os.Exit(run()) }

func run() int {
	var c cli
	k := kong.Parse(&c, kong.Name("gateway"), kong.Description("Lovage's HTTP API: durable background tasks."))
	if k.Command() == "health" {
		if err := service.Healthy(context.Background(), c.Listen, c.TLSCertFile != ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return c.Run(func(ctx context.Context, log *zap.Logger) error { return app.Run(ctx, c.Config, log) })
}
