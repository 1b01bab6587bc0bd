package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// refreshEvery is how old the copy of the catalog gets.
	refreshEvery = time.Second
	// refreshAtMost is how often an unknown name makes us look again.
	refreshAtMost = 200 * time.Millisecond
)

// version is one announced form of a task; while workers are being replaced
// there are several.
type version struct {
	entry  messages.CatalogEntry
	schema *jsonschema.Schema
	glance *glance
}

// snapshot is a copy of the catalog with everything that requests need ready.
// It is never written to.
type snapshot struct {
	// entries are all that was announced, by name and newest first.
	entries []messages.CatalogEntry
	// tasks holds the live versions of each name, newest first, or all of them
	// when no worker is alive.
	tasks map[string][]version
	names []string
	// openAPI is the document that describes them all, etag its tag.
	openAPI []byte
	etag    string
	// source tells whether the catalog has changed.
	source []byte
}

// catalog keeps the snapshot fresh. Requests read it without waiting, except
// for a name that it does not hold.
type catalog struct {
	source  Catalog
	timeout time.Duration
	log     *zap.Logger
	static  *openAPI
	// bare is the document before the catalog was loaded.
	bare    []byte
	bareTag string

	current atomic.Pointer[snapshot]
	// failing is set while the last refresh failed.
	failing atomic.Bool
	// turn holds one token: who has it refreshes.
	turn chan struct{}
	last time.Time // guarded by turn
}

func newCatalog(o Options, static *openAPI) *catalog {
	c := &catalog{
		source: o.Catalog, timeout: o.ReadTimeout, log: o.Log, static: static,
		turn: make(chan struct{}, 1),
	}
	c.bare = static.with(&snapshot{})
	c.bareTag = etag(c.bare)
	c.turn <- struct{}{}
	return c
}

// run refreshes until ctx ends.
func (c *catalog) run(ctx context.Context) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		c.refresh(ctx, 0)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// foreignQueue reports whether the catalog says that the workers of a queue are
// Celery's.
func (c *catalog) foreignQueue(queue string) bool {
	s := c.current.Load()
	return s != nil && slices.ContainsFunc(s.entries, func(e messages.CatalogEntry) bool { return e.Foreign && e.Queue == queue })
}

// refresh loads the catalog unless that was done within the age given. It keeps
// the last snapshot when the store does not answer.
func (c *catalog) refresh(ctx context.Context, age time.Duration) {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return
	}
	defer func() { c.turn <- struct{}{} }()
	if age > 0 && time.Since(c.last) < age {
		return
	}
	defer func() { c.last = time.Now() }()
	loading, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	entries, err := c.source.Catalog(loading)
	if err != nil {
		if ctx.Err() == nil && !c.failing.Swap(true) {
			c.log.Warn("catalog not loaded, keeping the last one", zap.Error(err))
		}
		return
	}
	if c.failing.Swap(false) {
		c.log.Info("catalog loads again")
	}
	c.take(entries)
}

// redis says how Redis is, as far as the catalog knows: up, down, or unknown
// before its first answer.
func (c *catalog) redis() string {
	switch {
	case c.failing.Load():
		return "down"
	case c.current.Load() == nil:
		return "unknown"
	}
	return "up"
}

// take makes a new snapshot when something has changed.
func (c *catalog) take(entries []messages.CatalogEntry) {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b messages.CatalogEntry) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), b.AnnouncedAt.Compare(a.AnnouncedAt), strings.Compare(a.Queue, b.Queue))
	})
	source := fingerprint(entries)
	if old := c.current.Load(); old != nil && bytes.Equal(old.source, source) {
		return
	}
	s := &snapshot{entries: entries, tasks: map[string][]version{}, source: source}
	for _, e := range entries {
		schema, err := compileSchema(e.Input)
		if err != nil {
			// The worker checks its input itself; better late than never.
			c.log.Warn("input schema not usable, input is not checked", zap.String("kind", e.Name), zap.Error(err))
		}
		s.tasks[e.Name] = append(s.tasks[e.Name], version{entry: e, schema: schema, glance: newGlance(schema)})
	}
	for name, versions := range s.tasks {
		s.tasks[name] = living(versions)
	}
	s.names = sortedKeys(s.tasks)
	s.openAPI = c.static.with(s)
	s.etag = etag(s.openAPI)
	c.current.Store(s)
	c.log.Info("catalog changed", zap.Int("tasks", len(s.names)))
}

// fingerprint tells two catalogs apart. It holds how many workers are alive,
// which the JSON of an entry leaves out.
func fingerprint(entries []messages.CatalogEntry) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, e := range entries {
		if err := enc.Encode(e); err != nil {
			// A schema that is not JSON: what can be said about it is this.
			e.Input, e.Output = nil, nil
			_ = enc.Encode(e)
		}
		fmt.Fprintln(&b, e.Alive)
	}
	return b.Bytes()
}

// living drops the versions that no worker runs any more, if there are others.
func living(all []version) []version {
	var alive []version
	for _, v := range all {
		if v.entry.Alive > 0 {
			alive = append(alive, v)
		}
	}
	if len(alive) == 0 {
		return all
	}
	return alive
}

// peek returns the versions of a task in the snapshot, nil when it has none.
func (c *catalog) peek(name string) []version {
	if s := c.current.Load(); s != nil {
		return s.tasks[name]
	}
	return nil
}

// find returns the versions of a task. A name that is not there makes it look
// again, for the worker may have started just now. The error is a [*problem].
func (c *catalog) find(ctx context.Context, name string) ([]version, error) {
	if v := c.peek(name); v != nil {
		return v, nil
	}
	if !c.failing.Load() {
		c.refresh(ctx, refreshAtMost)
	}
	s, err := c.loaded()
	if err != nil {
		return nil, err
	}
	if v := s.tasks[name]; v != nil {
		return v, nil
	}
	p := newProblem(slugUnknownTask, fmt.Sprintf("no worker has announced %q; see /v1/catalog", name))
	p.Nearest = nearest(name, s.names)
	return nil, p
}

// loaded returns the snapshot. The error is a [*problem].
func (c *catalog) loaded() (*snapshot, error) {
	if s := c.current.Load(); s != nil {
		return s, nil
	}
	return nil, newProblem(slugNoCatalog, "which tasks there are is not known before the result store has answered once; POST /v1/tasks with options.queue works all the same")
}

// accept returns the first version that takes the input. If there is none, the
// newest one says what is wrong.
func accept(versions []version, input func(messages.CatalogEntry) (json.RawMessage, []fieldError)) (messages.CatalogEntry, []fieldError) {
	var first []fieldError
	for i, v := range versions {
		errs := v.check(input)
		if len(errs) == 0 {
			return v.entry, nil
		}
		if i == 0 {
			first = errs
		}
	}
	return versions[0].entry, first
}

func (v version) check(input func(messages.CatalogEntry) (json.RawMessage, []fieldError)) []fieldError {
	if v.schema == nil {
		return nil
	}
	raw, errs := input(v.entry)
	if len(errs) > 0 {
		return errs
	}
	if v.glance.fits(raw) {
		return nil
	}
	return inputErrors(v.schema, raw)
}
