package service

import (
	"sync"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"
)

//nolint:gochecknoglobals // what it guards is global as well
var quiet sync.Once

// QuietRedis keeps go-redis from writing lines of its own: the programs log when
// Redis goes and comes. It may be called by several in one process.
func QuietRedis() { quiet.Do(logging.Disable) }

// Logger builds the logger for a program that runs others within it.
func (o Options) Logger() (*zap.Logger, error) {
	log, _, err := o.logger()
	return log, err
}
