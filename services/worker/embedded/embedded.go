// Package embedded runs the worker that ships inside another program.
package embedded

import (
	"context"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/settings"
	"github.com/lovage-mq/lovage/services/worker/internal/app"
)

// Run takes tasks until ctx ends and everything has stopped. The arguments are flags of
// the program worker; what they do not say the environment does, as ever.
func Run(ctx context.Context, args []string, log *zap.Logger) error {
	var c app.Config
	if _, err := settings.Parse(&c, args, os.LookupEnv); err != nil {
		return fmt.Errorf("configuration of the worker: %w", err)
	}
	return app.Run(ctx, c, log)
}
