// Package embedded runs the worker that ships inside another program.
package embedded

import (
	"context"
	"fmt"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/services/worker/internal/app"
)

// Run takes tasks until ctx ends and everything has stopped. The arguments are flags of
// the program worker; what they do not say the environment does, as ever.
func Run(ctx context.Context, args []string, log *zap.Logger) error {
	var c app.Config
	parser, err := kong.New(&c, kong.Name("worker"))
	if err == nil {
		_, err = parser.Parse(args)
	}
	if err != nil {
		return fmt.Errorf("configuration of the worker: %w", err)
	}
	return app.Run(ctx, c, log)
}
