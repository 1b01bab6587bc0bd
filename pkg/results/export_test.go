package results

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// TaskKey is the name of the task record, for tests that look into it.
func TaskKey(id string) string { return taskKey(id) }

// Name is the name of the reservation, for tests that look into it.
func (r Reservation) Name() string { return r.name() }

// Slot is the slot of a name without a tag.
func Slot(name string) uint16 { return slot(name) }

// TrimAfter makes the index be trimmed after so many more entries.
func (s *Store) TrimAfter(n int64) { s.index.added.Store(trimEvery - n) }

// SetPatience shortens how long a batch of records is tried.
func (r *Recorder) SetPatience(d time.Duration) { r.patience = d }

// SetPulse shortens how long a silent connection stays unnoticed.
func (w *Watcher) SetPulse(d time.Duration) { w.pulse = d }

// Down reports whether there is no connection.
func (w *Watcher) Down() bool { return w.down.Load() }

// TaskLua makes a hash of the task record: see lua/task.lua.
func TaskLua() string { return taskLua }

// IndexKey is the name of the part of the index for tasks in a state.
func IndexKey(s messages.State) string { return shelfOf(s).key() }

// IndexKeys are the names of all parts of the index.
func IndexKeys() (keys []string) {
	for s := range shelves {
		keys = append(keys, s.key())
	}
	return keys
}

// IndexEntry is the entry of a task in its part of the index.
func IndexEntry(r *messages.Result) redis.Z { return placeOf(r).z() }

// Enter enters tasks in the index together.
func (s *Store) Enter(ctx context.Context, records ...*messages.Result) error {
	entries := make([]entry, len(records))
	for i, r := range records {
		entries[i] = entryOf(r)
	}
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		s.index.add(ctx, pipe, entries...)
		return nil
	})
	return err
}

// Trim bounds the index now.
func (s *Store) Trim(ctx context.Context) error { return s.index.trim(ctx) }

// TidyOnce looks over the open parts of the index.
func (s *Store) TidyOnce(ctx context.Context) error {
	for open := range openShelves {
		if _, err := s.index.tidy(ctx, open, place{}); err != nil {
			return err
		}
	}
	return nil
}
