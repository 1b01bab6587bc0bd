package service

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"go.uber.org/zap"
)

// switchLevel lets SIGUSR1 switch the log to debug, and the next one back, until
// stop is called.
func switchLevel(level zap.AtomicLevel, log *zap.Logger) (stop func()) {
	configured := level.Level()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	var listening sync.WaitGroup
	listening.Go(func() {
		for range asked {
			to := zap.DebugLevel
			if level.Level() == to {
				to = configured
			}
			level.SetLevel(to)
			log.Warn("log level changed", zap.Stringer("to", to))
		}
	})
	return func() {
		signal.Stop(asked)
		close(asked)
		listening.Wait()
	}
}
