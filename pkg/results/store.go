package results

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Options are the settings of a [Store]. Client is required.
type Options struct {
	Client redis.UniversalClient
	// TTL is how long a final state is kept, 24 h by default.
	TTL time.Duration
	// PendingTTL is how long a record that is not final is kept after the
	// latest time at which something is due to happen to it, 7 days by default.
	PendingTTL time.Duration
	// Lease is how long a claim holds without being renewed, 15 s by default.
	Lease time.Duration
	// IndexLimit is how many tasks of each state the newest-first index names,
	// 1,000,000 by default. The records of older ones can still be read by id.
	IndexLimit int
	// Log is silent by default.
	Log *zap.Logger
}

// Store is the results store. It is safe for concurrent use, owns no
// goroutine, and does not close the client. Use [New].
type Store struct {
	client     redis.UniversalClient
	ttl        time.Duration
	pendingTTL time.Duration
	lease      time.Duration
	log        *zap.Logger
	scripts    scripts
	index      *index
	spread     bool // over many servers
	groups     groups
	changes    changes
	announced  announcements
}

// New returns a store over the client; it does not connect.
func New(o Options) *Store {
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	ttl := or(o.TTL, 24*time.Hour)
	s := &Store{
		client:     o.Client,
		ttl:        ttl,
		pendingTTL: or(o.PendingTTL, 7*24*time.Hour),
		lease:      or(o.Lease, 15*time.Second),
		log:        log,
		scripts:    newScripts(),
		index:      newIndex(o.Client, or(o.IndexLimit, 1_000_000), ttl),
	}
	_, one := o.Client.(*redis.Client)
	s.spread = !one
	s.groups.store = s
	s.changes.client, s.changes.log = o.Client, log
	return s
}

// Ping asks Redis for a sign of life; [messages.ErrStoreUnavailable] when none
// comes before the context ends.
func (s *Store) Ping(ctx context.Context) error {
	return storeError("ping redis", s.client.Ping(ctx).Err())
}

// pendingFor is how long a record that is not final must live: it counts from
// the latest time at which something is still due.
func (s *Store) pendingFor(r *messages.Result) time.Duration {
	if r == nil {
		return s.pendingTTL
	}
	now := time.Now()
	latest := now
	for _, due := range []time.Time{r.ETA, r.Expires, r.NextAttempt} {
		if due.After(latest) {
			latest = due
		}
	}
	return latest.Sub(now) + s.pendingTTL
}

// storeError adds what was going on, and [messages.ErrStoreUnavailable] where
// Redis did not answer or could not do anything at all.
func storeError(doing string, err error) error {
	if err == nil {
		return nil
	}
	if unavailable(err) {
		return fmt.Errorf("%s: %w: %w", doing, messages.ErrStoreUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// unavailable tells an outage from an answer. A caller that gave up says
// nothing about Redis; a deadline that ran out does.
func unavailable(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	if _, answered := errors.AsType[redis.Error](err); !answered {
		return true
	}
	for _, prefix := range outages() {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// outages are the answers by which a server says that it cannot serve now,
// whatever the command.
func outages() []string {
	return []string{
		"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF", "OOM",
		"EXECABORT", // for one of these
		"BUSY ", "UNKILLABLE", "NOAUTH", "WRONGPASS", "NOPERM", "max number of clients",
	}
}
