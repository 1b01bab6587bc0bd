package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
	"github.com/lovage-mq/lovage/services/gateway/internal/auth"
)

// door is what keeps strangers out; one without keys stands open.
type door struct {
	keys *access.Keyring
	auth *auth.Gate
}

// newDoor looks at the keys once: a file that cannot be read is an error, while
// Redis may be away.
func newDoor(ctx context.Context, c Config, client redis.UniversalClient, log *zap.Logger) (*door, error) {
	if !c.secured() {
		if c.InsecureNoAuth {
			log.Warn("nobody has to show credentials, and whoever reaches the address may do everything (LOVAGE_INSECURE_NO_AUTH)")
		}
		return &door{}, nil
	}
	store := access.Redis{Client: client}
	var stores []access.Store
	if c.APIKeysFile != "" {
		stores = append(stores, access.File{Path: c.APIKeysFile})
	}
	if c.APIKeysRedis {
		stores = append(stores, store)
	}
	keys := access.NewKeyring(store, log, stores...)
	if err := keys.Refresh(ctx); err != nil && !errors.Is(err, access.ErrUnavailable) {
		return nil, fmt.Errorf("LOVAGE_API_KEYS_FILE, LOVAGE_API_KEYS_REDIS: %w", err)
	}
	return &door{keys: keys, auth: auth.New(auth.Options{Keys: keys, Log: log})}, nil
}

// gate is nil for an open door.
func (d *door) gate() api.Gate {
	if d.auth == nil {
		return nil
	}
	return d.auth
}

// run keeps the keys fresh until ctx ends.
func (d *door) run(ctx context.Context) error {
	if d.keys == nil {
		return nil
	}
	return d.keys.Run(ctx)
}
