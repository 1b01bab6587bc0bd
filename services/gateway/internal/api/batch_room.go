package api

import (
	"context"
	"sync"
)

// room bounds what a batch holds: items that are not answered, and their bytes.
type room struct {
	items, bytes int // at most
	freed        chan struct{}

	mu        sync.Mutex
	held      int // items
	heldBytes int
}

func newRoom(items, bytes int) *room {
	return &room{items: items, bytes: bytes, freed: make(chan struct{}, 1)}
}

// enter waits until there is room for an item of n bytes, or nothing else is in
// it; false when ctx ended first.
func (r *room) enter(ctx context.Context, n int) bool {
	for !r.take(n) {
		select {
		case <-r.freed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (r *room) take(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held > 0 && (r.held == r.items || r.heldBytes+n > r.bytes) {
		return false
	}
	r.held++
	r.heldBytes += n
	return true
}

// exchange replaces bytes by others, whether or not there is room for them.
// Nobody is told: the items are still there.
func (r *room) exchange(out, in int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heldBytes += in - out
}

// leave lets items go.
func (r *room) leave(items, bytes int) {
	r.mu.Lock()
	r.held -= items
	r.heldBytes -= bytes
	r.mu.Unlock()
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

// slots bound what is in flight together.
type slots chan struct{}

// enter waits for a slot; false when ctx ended first.
func (s slots) enter(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// tryEnter takes a slot if one is free.
func (s slots) tryEnter() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) leave() { <-s }
