package results

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Warning is a setting of the Redis server under which promises do not hold.
type Warning struct {
	// Setting is Redis's name for it, such as "maxmemory-policy".
	Setting string
	// Value is what the server has, "unknown" when it does not tell.
	Value string
	// Want is what it should be, and Why what happens otherwise.
	Want string
	Why  string
}

// String tells an operator what to change.
func (w Warning) String() string {
	return fmt.Sprintf("redis setting %s is %s, should be %s: %s", w.Setting, w.Value, w.Want, w.Why)
}

// CheckServer looks for settings of the Redis server under which records can
// vanish. It needs no right to CONFIG; where the server does not tell, the
// value is "unknown". In a cluster it looks at every master.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) CheckServer(ctx context.Context) ([]Warning, error) {
	if err := s.Ping(ctx); err != nil {
		return nil, err
	}
	var policies policies
	var err error
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			return policies.look(ctx, master)
		})
	} else {
		err = policies.look(ctx, s.client)
	}
	if err != nil {
		return nil, storeError("check redis settings", err)
	}
	return policies.warnings(), nil
}

// policies are the values of maxmemory-policy in use. The zero value is ready.
type policies struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

// look asks one server. A server that does not tell is not an error.
func (p *policies) look(ctx context.Context, server redis.Cmdable) error {
	info, err := server.Info(ctx, "memory").Result()
	if _, answered := errors.AsType[redis.Error](err); err != nil && !answered {
		return err
	}
	value := "unknown"
	for line := range strings.Lines(info) {
		if name, found := strings.CutPrefix(line, "maxmemory_policy:"); found {
			value = strings.TrimSpace(name)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = make(map[string]struct{})
	}
	p.seen[value] = struct{}{}
	return nil
}

func (p *policies) warnings() []Warning {
	var warnings []Warning
	for _, value := range slices.Sorted(maps.Keys(p.seen)) {
		if value == "noeviction" {
			continue
		}
		warnings = append(warnings, Warning{
			Setting: "maxmemory-policy", Value: value, Want: "noeviction",
			Why: "a full Redis would delete records of tasks instead of refusing new ones",
		})
	}
	return warnings
}
