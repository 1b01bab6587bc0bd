package results

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// workersKey is a sorted set of workers' names by when they were seen
	// last, so that nobody has to search the keys.
	workersKey = "lovage:workers"
	// alive is how long a sign of life holds.
	alive = 15 * time.Second
	// forgetWorkerAfter is how long the name of a dead worker stays.
	forgetWorkerAfter = time.Minute
)

const (
	// runningListed is how many running tasks are in the sign of life, which is
	// read often and with those of all others, and runningShown how many there are
	// beside it.
	runningListed = 5
	runningShown  = 100
)

// workerKey holds the worker's sign of life, runningKey more of what it runs than
// is in there, and tasksKey the fields of the catalog that it runs; all of them
// end when the signs of life do.
func workerKey(name string) string  { return "lovage:worker:" + name }
func runningKey(name string) string { return "lovage:worker:" + name + ":running" }
func tasksKey(name string) string   { return "lovage:worker:" + name + ":tasks" }

// announcement is what a worker has announced.
type announcement struct {
	// entries are the fields of the catalog with their values.
	entries map[string]string
	// fields is the JSON list of the fields.
	fields string
}

// announcements remembers by the worker's name what was announced through this
// store, to be able to say it again when Redis has lost it. The zero value is
// ready.
type announcements struct {
	mu       sync.Mutex
	byWorker map[string]announcement
}

func (a *announcements) put(name string, said announcement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byWorker == nil {
		a.byWorker = make(map[string]announcement)
	}
	a.byWorker[name] = said
}

func (a *announcements) get(name string) (announcement, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	said, ok := a.byWorker[name]
	return said, ok
}

func (a *announcements) remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byWorker, name)
}

// Announce enters in the catalog what a worker can run, as of now, and gives
// its first sign of life. Entries that differ in anything but the time are
// versions of their own. What is announced is remembered: if Redis does not
// hear it now, or loses it, [Store.Heartbeat] says it again.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Announce(ctx context.Context, w messages.WorkerInfo, entries []messages.CatalogEntry) error {
	said, err := newAnnouncement(entries, time.Now())
	if err != nil {
		return fmt.Errorf("announce worker: %w", err)
	}
	s.announced.put(w.Name, said)
	life, err := newSignOfLife(w)
	if err != nil {
		return fmt.Errorf("announce worker: %w", err)
	}
	_, err = s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for field, entry := range said.entries {
			pipe.HSet(ctx, catalogKey, field, entry)
		}
		pipe.Set(ctx, tasksKey(w.Name), said.fields, alive)
		life.queue(ctx, pipe)
		return nil
	})
	if err != nil {
		return storeError("announce worker", err)
	}
	if err := s.forgetVersions(ctx); err != nil {
		s.log.Debug("catalog not tidied", zap.Error(err))
	}
	return nil
}

func newAnnouncement(entries []messages.CatalogEntry, now time.Time) (announcement, error) {
	said := announcement{entries: make(map[string]string, len(entries))}
	fields := make([]string, 0, len(entries))
	for _, e := range entries {
		e.AnnouncedAt = time.Time{}
		content, err := json.Marshal(e)
		if err != nil {
			return announcement{}, fmt.Errorf("encode catalog entry %s: %w", e.Name, err)
		}
		digest := sha256.Sum256(content)
		field := e.Name + "@" + hex.EncodeToString(digest[:])[:12]
		e.AnnouncedAt = now.UTC()
		if content, err = json.Marshal(e); err != nil {
			return announcement{}, fmt.Errorf("encode catalog entry %s: %w", e.Name, err)
		}
		said.entries[field] = string(content)
		fields = append(fields, field)
	}
	list, err := json.Marshal(fields)
	said.fields = string(list)
	return said, err
}

// signOfLife is what says that a worker lives.
type signOfLife struct {
	name    string
	seen    time.Time
	info    []byte
	running []byte // nil when all of it is in info
}

func newSignOfLife(w messages.WorkerInfo) (signOfLife, error) {
	life := signOfLife{name: w.Name, seen: time.Now().UTC()}
	w.LastSeen = life.seen
	var errs [2]error
	if running := w.Running; len(running) > runningListed {
		w.Running = running[:runningListed]
		life.running, errs[0] = json.Marshal(running[:min(len(running), runningShown)])
	}
	life.info, errs[1] = json.Marshal(w)
	if err := errors.Join(errs[:]...); err != nil {
		return signOfLife{}, fmt.Errorf("encode worker: %w", err)
	}
	return life, nil
}

func (l signOfLife) queue(ctx context.Context, pipe redis.Pipeliner) {
	pipe.Set(ctx, workerKey(l.name), l.info, alive)
	if l.running != nil {
		pipe.Set(ctx, runningKey(l.name), l.running, alive)
	} else {
		pipe.Del(ctx, runningKey(l.name))
	}
	pipe.ZAdd(ctx, workersKey, redis.Z{Score: float64(l.seen.UnixMilli()), Member: l.name})
}

// Heartbeat is a sign of life that holds for 15 s. Of the running tasks it keeps
// the first 100. It repeats what the worker has announced if Redis does not have it any more.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Heartbeat(ctx context.Context, w messages.WorkerInfo) error {
	life, err := newSignOfLife(w)
	if err != nil {
		return fmt.Errorf("send heartbeat: %w", err)
	}
	var kept *redis.BoolCmd
	_, err = s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		kept = pipe.PExpire(ctx, tasksKey(w.Name), alive)
		life.queue(ctx, pipe)
		return nil
	})
	if err != nil {
		return storeError("send heartbeat", err)
	}
	said, announced := s.announced.get(w.Name)
	if kept.Val() || !announced {
		return nil
	}
	_, err = s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for field, entry := range said.entries {
			// Another worker may have announced the same later.
			pipe.HSetNX(ctx, catalogKey, field, entry)
		}
		pipe.Set(ctx, tasksKey(w.Name), said.fields, alive)
		return nil
	})
	return storeError("announce worker again", err)
}

// Leave takes back the worker's sign of life. Its entries stay in the catalog.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Leave(ctx context.Context, w messages.WorkerInfo) error {
	s.announced.remove(w.Name)
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		// One key a command: they are in different slots of a cluster.
		pipe.Del(ctx, workerKey(w.Name))
		pipe.Del(ctx, runningKey(w.Name))
		pipe.Del(ctx, tasksKey(w.Name))
		pipe.ZRem(ctx, workersKey, w.Name)
		return nil
	})
	return storeError("leave", err)
}

// Worker returns one live worker, with up to 100 of the tasks that it runs.
//
// Errors: [messages.ErrNotFound], [messages.ErrStoreUnavailable].
func (s *Store) Worker(ctx context.Context, name string) (messages.WorkerInfo, error) {
	pipe := s.client.Pipeline()
	info, running := pipe.Get(ctx, workerKey(name)), pipe.Get(ctx, runningKey(name))
	_, _ = pipe.Exec(ctx) // the error of the pipeline is the first of its commands', read below
	var w messages.WorkerInfo
	text, err := info.Bytes()
	if errors.Is(err, redis.Nil) {
		return w, fmt.Errorf("read worker: %w", messages.ErrNotFound)
	}
	if err != nil {
		return w, storeError("read worker", err)
	}
	if err := json.Unmarshal(text, &w); err != nil {
		return w, fmt.Errorf("read worker: %w", err)
	}
	more, err := running.Bytes()
	if errors.Is(err, redis.Nil) {
		return w, nil
	}
	if err != nil {
		return w, storeError("read worker", err)
	}
	if err := json.Unmarshal(more, &w.Running); err != nil {
		return w, fmt.Errorf("read running tasks: %w", err)
	}
	return w, nil
}

// Workers returns the live workers by name, each with the 5 tasks that it has run
// for longest.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Workers(ctx context.Context) ([]messages.WorkerInfo, error) {
	values, gone, err := s.ofWorkers(ctx, workerKey)
	if err != nil {
		return nil, storeError("read workers", err)
	}
	workers := make([]messages.WorkerInfo, 0, len(values))
	for _, value := range values {
		var w messages.WorkerInfo
		if err := json.Unmarshal([]byte(value), &w); err != nil {
			s.log.Debug("worker not readable", zap.Error(err))
			continue
		}
		workers = append(workers, w)
	}
	slices.SortFunc(workers, func(a, b messages.WorkerInfo) int { return strings.Compare(a.Name, b.Name) })
	if len(gone) > 0 {
		if err := s.client.ZRem(ctx, workersKey, gone...).Err(); err != nil {
			s.log.Debug("workers not tidied", zap.Error(err))
		}
	}
	return workers, nil
}

// ofWorkers reads one key of each worker, and lists the workers that are gone
// for longer than a break of their connection takes.
func (s *Store) ofWorkers(ctx context.Context, key func(name string) string) (values []string, gone []any, err error) {
	names, err := s.client.ZRangeWithScores(ctx, workersKey, 0, -1).Result()
	if err != nil || len(names) == 0 {
		return nil, nil, err
	}
	pipe := s.client.Pipeline()
	cmds := make([]*redis.StringCmd, len(names))
	for i, z := range names {
		name, _ := z.Member.(string)
		cmds[i] = pipe.Get(ctx, key(name))
	}
	// The error of the pipeline is the first of its commands', read there.
	_, _ = pipe.Exec(ctx)
	for i, cmd := range cmds {
		value, err := cmd.Result()
		switch {
		case err == nil:
			values = append(values, value)
		case !errors.Is(err, redis.Nil):
			return nil, nil, err
		case time.Since(time.UnixMilli(int64(names[i].Score))) > forgetWorkerAfter:
			gone = append(gone, names[i].Member)
		}
	}
	return values, gone, nil
}
