package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Why somebody is not let in.
var (
	// ErrUnknown says that there is no such key. It does not say whether there
	// ever was one.
	ErrUnknown = errors.New("no such API key")
	// ErrExpired and ErrRevoked are for somebody who shows the whole key.
	ErrExpired = errors.New("the API key has expired")
	ErrRevoked = errors.New("the API key was revoked")
	// ErrNotLoaded says that nobody can tell yet which keys there are.
	ErrNotLoaded = errors.New("the API keys could not be loaded yet")
	// ErrUnavailable is that of a store that does not answer.
	ErrUnavailable = errors.New("the store of the API keys does not answer")
)

const (
	refreshEvery = time.Second
	usageEvery   = 10 * time.Second
	storeTimeout = 2 * time.Second
	// mostKeys bounds a store.
	mostKeys = 10_000
)

// Store is where keys are kept.
type Store interface {
	// Load returns the keys and a version of them, or no keys when that is the
	// version given. The error wraps [ErrUnavailable] when it may go by itself.
	Load(ctx context.Context, have string) (keys []Key, version string, err error)
	// Save puts keys in, in the place of those with the same ids, and drops those
	// that have been of no use for long.
	Save(ctx context.Context, keys ...Key) error
}

// Usage keeps when keys were last used, by id.
type Usage interface {
	SaveUsage(ctx context.Context, used map[string]time.Time) error
}

// Keyring knows the keys of some stores without asking them: a copy is renewed
// every second, and outlives a store that is away.
type Keyring struct {
	stores []Store
	usage  Usage
	log    *zap.Logger

	// Of the goroutine that refreshes.
	lists    [][]Key
	versions []string
	failing  []bool
	saved    map[string]int64

	current atomic.Pointer[ring]
}

// ring is a copy of the keys. It is never written to, but for the time of use.
type ring struct {
	byID map[string]*entry
	// whole is set when every store was loaded.
	whole bool
}

type entry struct {
	key   Key
	grant *Grant
	used  *atomic.Int64 // Unix time, 0 for not since the start
}

// NewKeyring returns a keyring that is empty until [Keyring.Refresh]. The usage
// may be nil.
func NewKeyring(usage Usage, log *zap.Logger, stores ...Store) *Keyring {
	k := &Keyring{
		stores: stores, usage: usage, log: log, saved: map[string]int64{},
		lists: make([][]Key, len(stores)), versions: make([]string, len(stores)), failing: make([]bool, len(stores)),
	}
	k.current.Store(&ring{})
	return k
}

// Check returns what the owner of a token may do, or one of ErrUnknown,
// ErrExpired, ErrRevoked and ErrNotLoaded. It waits for nothing.
func (k *Keyring) Check(token string, now time.Time) (*Grant, error) {
	r := k.current.Load()
	id, ok := idOf(token)
	e := r.byID[id]
	switch {
	case ok && e == nil && !r.whole:
		return nil, ErrNotLoaded
	case !ok || e == nil || !e.key.is(token):
		return nil, ErrUnknown
	}
	return e.use(now)
}

// Grant returns what the key with an id may do now. It is for somebody who has
// shown the whole key before. Errors are those of [Keyring.Check].
func (k *Keyring) Grant(id string, now time.Time) (*Grant, error) {
	r := k.current.Load()
	e := r.byID[id]
	switch {
	case e != nil:
		return e.use(now)
	case !r.whole:
		return nil, ErrNotLoaded
	}
	return nil, ErrUnknown
}

// Known returns the id in a token when there is a key with that id, whether or
// not the rest of the token is right.
func (k *Keyring) Known(token string) (id string, known bool) {
	id, ok := idOf(strings.TrimSpace(token))
	return id, ok && k.current.Load().byID[id] != nil
}

func (e *entry) use(now time.Time) (*Grant, error) {
	switch e.key.State(now) {
	case Expired:
		return nil, ErrExpired
	case Revoked:
		return nil, ErrRevoked
	}
	if seconds := now.Unix(); e.used.Load() != seconds {
		e.used.Store(seconds)
	}
	return e.grant, nil
}

// Refresh loads what has changed. It keeps what it has of a store that fails,
// and returns the errors. [Keyring.Run] calls it; before that it may be called
// by hand.
func (k *Keyring) Refresh(ctx context.Context) error {
	var errs []error
	changed := false
	for i, s := range k.stores {
		loading, cancel := context.WithTimeout(ctx, storeTimeout)
		keys, version, err := s.Load(loading, k.versions[i])
		cancel()
		if err != nil {
			errs = append(errs, err)
		}
		if failed := err != nil; failed != k.failing[i] && ctx.Err() == nil {
			k.failing[i] = failed
			if failed {
				k.log.Warn("API keys not loaded, keeping the last ones", zap.Error(err))
			} else {
				k.log.Info("API keys load again")
			}
		}
		if err == nil && version != k.versions[i] {
			k.lists[i], k.versions[i], changed = keys, version, true
		}
	}
	if changed {
		k.take()
	}
	return errors.Join(errs...)
}

// take makes a new copy of what was loaded.
func (k *Keyring) take() {
	old := k.current.Load()
	r := &ring{byID: map[string]*entry{}, whole: !slices.Contains(k.versions, "")}
	for _, list := range k.lists {
		for _, key := range list {
			e := &entry{key: key, grant: key.grant(), used: &atomic.Int64{}}
			if was := old.byID[key.ID]; was != nil {
				e.used = was.used
			}
			r.byID[key.ID] = e
		}
	}
	k.current.Store(r)
	k.log.Info("API keys loaded", zap.Int("keys", len(r.byID)))
	if len(r.byID) == 0 {
		k.log.Warn("there is no API key, so nobody is let in: make one with lovage keys create")
	}
}

// Run keeps the copy fresh and tells when keys were used, until ctx ends. It
// returns nil then, and may be called once.
func (k *Keyring) Run(ctx context.Context) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	usage := time.NewTicker(usageEvery)
	defer usage.Stop()
	for {
		_ = k.Refresh(ctx) // it logs
		select {
		case <-ctx.Done():
			k.saveUsage(context.WithoutCancel(ctx))
			return nil
		case <-usage.C:
			k.saveUsage(ctx)
		case <-tick.C:
		}
	}
}

// saveUsage writes when keys were used since the last time. What is not written
// is written the next time.
func (k *Keyring) saveUsage(ctx context.Context) {
	used := map[string]time.Time{}
	for id, e := range k.current.Load().byID {
		if at := e.used.Load(); at != 0 && at != k.saved[id] {
			used[id] = time.Unix(at, 0).UTC()
		}
	}
	if len(used) == 0 || k.usage == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if k.usage.SaveUsage(ctx, used) != nil {
		return
	}
	maps.DeleteFunc(k.saved, func(id string, _ int64) bool { return k.current.Load().byID[id] == nil })
	for id, at := range used {
		k.saved[id] = at.Unix()
	}
}

// merge puts keys into a list and drops those that are forgotten.
func merge(list []Key, keys []Key, now time.Time) ([]Key, error) {
	var errs []error
	for _, k := range keys {
		errs = append(errs, k.validate())
		list = slices.DeleteFunc(list, func(other Key) bool { return other.ID == k.ID })
		list = append(list, k)
	}
	list = slices.DeleteFunc(list, func(k Key) bool { return k.forgotten(now) })
	if len(list) > mostKeys {
		errs = append(errs, fmt.Errorf("there would be %s keys, and %d may be: revoke some", strconv.Itoa(len(list)), mostKeys))
	}
	return list, errors.Join(errs...)
}
