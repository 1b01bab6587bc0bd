package results

import "time"

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
