package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// keysKey is a hash: the id of a key to the key. versionKey counts its
	// changes. usageKey is a hash: id to Unix time.
	keysKey    = "lovage:{keys}:all"
	versionKey = "lovage:{keys}:version"
	usageKey   = "lovage:{keys}:used"
)

// Redis keeps keys, their usage, sessions, rates and the audit in Redis.
type Redis struct{ Client redis.UniversalClient }

// Load implements [Store].
func (r Redis) Load(ctx context.Context, have string) ([]Key, string, error) {
	version, err := r.Client.Get(ctx, versionKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, "", unavailable("load API keys", err)
	}
	if version = "v" + version; version == have {
		return nil, version, nil
	}
	var all *redis.MapStringStringCmd
	var at *redis.StringCmd
	_, err = r.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		all, at = p.HGetAll(ctx, keysKey), p.Get(ctx, versionKey)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, "", unavailable("load API keys", err)
	}
	keys, err := readKeys(all.Val())
	return keys, "v" + at.Val(), err
}

func readKeys(values map[string]string) ([]Key, error) {
	keys := make([]Key, 0, len(values))
	for _, id := range slices.Sorted(maps.Keys(values)) {
		var k Key
		err := json.Unmarshal([]byte(values[id]), &k)
		if err == nil {
			err = k.validate()
		}
		if err == nil && k.ID != id {
			err = errors.New("its id is another one")
		}
		if err != nil {
			return nil, fmt.Errorf("API key %s in Redis: %w", id, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Save implements [Store].
func (r Redis) Save(ctx context.Context, keys ...Key) error {
	save := func(tx *redis.Tx) error {
		values, err := tx.HGetAll(ctx, keysKey).Result()
		if err != nil {
			return unavailable("save API keys", err)
		}
		list, err := readKeys(values)
		if err != nil {
			return err
		}
		if list, err = merge(list, keys, time.Now()); err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for _, k := range list {
				text, err := json.Marshal(k)
				if err != nil {
					return err
				}
				if string(text) != values[k.ID] {
					p.HSet(ctx, keysKey, k.ID, text)
				}
				delete(values, k.ID)
			}
			for forgotten := range values {
				p.HDel(ctx, keysKey, forgotten)
				p.HDel(ctx, usageKey, forgotten)
			}
			p.Incr(ctx, versionKey)
			return nil
		})
		return err
	}
	for {
		err := r.Client.Watch(ctx, save, versionKey)
		if !errors.Is(err, redis.TxFailedErr) { // else somebody else has saved meanwhile
			return err
		}
	}
}

// SaveUsage implements [Usage].
func (r Redis) SaveUsage(ctx context.Context, used map[string]time.Time) error {
	fields := make(map[string]any, len(used))
	for id, at := range used {
		fields[id] = at.Unix()
	}
	return unavailable("save the usage of API keys", r.Client.HSet(ctx, usageKey, fields).Err())
}

// Usage returns when keys were last used, as of some seconds ago, by id.
func (r Redis) Usage(ctx context.Context) (map[string]time.Time, error) {
	values, err := r.Client.HGetAll(ctx, usageKey).Result()
	if err != nil {
		return nil, unavailable("read the usage of API keys", err)
	}
	used := make(map[string]time.Time, len(values))
	for id, text := range values {
		var at int64
		if _, err := fmt.Sscan(text, &at); err == nil {
			used[id] = time.Unix(at, 0).UTC()
		}
	}
	return used, nil
}

// unavailable marks what goes by itself. What the server says about a command
// does not, unless it says that it is loading.
func unavailable(doing string, err error) error {
	if err == nil {
		return nil
	}
	if said, ok := errors.AsType[redis.Error](err); ok && !strings.HasPrefix(said.Error(), "LOADING") {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
}
