package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
	"github.com/lovage-mq/lovage/services/gateway/internal/auth"
)

// door is what keeps strangers out and knows who has done what; one without keys
// stands open.
type door struct {
	keys  *access.Keyring
	auth  *auth.Gate
	rates *access.Limiter
	audit *access.Audit
}

// newDoor looks at the keys once: a file that cannot be read is an error, while
// Redis may be away.
func newDoor(ctx context.Context, c Config, client redis.UniversalClient, log *zap.Logger) (*door, error) {
	rule, err := access.NewRate(c.RateLimit, c.RateBurst)
	if err != nil {
		return nil, err
	}
	d := &door{rates: access.NewLimiter(client, rule, log), audit: access.NewAudit(client)}
	if !c.secured() {
		if c.unguarded() {
			log.Warn("nobody has to show credentials, and whoever reaches the address may do everything (LOVAGE_INSECURE_NO_AUTH)")
		}
		return d, nil
	}
	store := access.Redis{Client: client}
	var stores []access.Store
	if c.APIKeysFile != "" {
		stores = append(stores, access.File{Path: c.APIKeysFile})
	}
	if c.APIKeysRedis {
		stores = append(stores, store)
	}
	d.keys = access.NewKeyring(store, log, stores...)
	if err := d.keys.Refresh(ctx); err != nil && !errors.Is(err, access.ErrUnavailable) {
		return nil, fmt.Errorf("LOVAGE_API_KEYS_FILE, LOVAGE_API_KEYS_REDIS: %w", err)
	}
	d.auth = auth.New(auth.Options{Keys: d.keys, Sessions: store, SessionLife: c.SessionTTL, Log: log})
	return d, nil
}

// gate is nil for an open door.
func (d *door) gate() api.Gate {
	if d.auth == nil {
		return nil
	}
	return d.auth
}

// pages are those of the login; nil for an open door.
func (d *door) pages(a *api.API) http.Handler {
	if d.auth == nil {
		return nil
	}
	return a.Guard(api.LoginPath, "", d.auth.Pages())
}

// run keeps the keys fresh and writes the audit until ctx ends.
func (d *door) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.audit.Run(ctx) })
	if d.keys != nil {
		g.Go(func() error { return d.keys.Run(ctx) })
	}
	return g.Wait()
}

// watch shows what did not become part of the audit.
func (d *door) watch(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lovage_audit_dropped_total", Help: "Steering acts that are in the log only, because Redis was away for too long.",
	}, func() float64 { return float64(d.audit.Dropped()) }))
}
