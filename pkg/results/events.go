package results

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// eventsKey is a stream with an entry for each change of a task, and the
	// channel on which it is said that there are more. The stream is there only
	// while somebody listens: who makes a change asks for it and adds to it, but
	// does not make it.
	eventsKey = "lovage:events"
	// eventsKept is about how many entries the stream has at most: 10 MB.
	eventsKept = 50_000
	// eventsTTL is how long the stream is kept for those who come back.
	eventsTTL = 5 * time.Minute
	// eventsAsk is for how long the answer holds whether somebody listens.
	eventsAsk = 500 * time.Millisecond
	// eventsTimeout bounds what it may take to tell of changes.
	eventsTimeout = 500 * time.Millisecond
	// The fields of an entry. One without an id marks a place in the stream.
	eventID, eventState, eventName, eventQueue, eventMark = "i", "s", "n", "q", "m"
)

// ErrEventsGone says that of the events after a position some are not there any
// more: too many have come since, or nobody has listened for five minutes.
var ErrEventsGone = errors.New("some events are gone")

// Event says that a task has changed.
type Event struct {
	// Position is its place among all events, as Redis writes it.
	Position string
	TaskID   string
	State    messages.State
	// Name and Queue are empty where the record does not say.
	Name, Queue string
	// At is when it was told, by the clock of Redis.
	At time.Time
}

// ListenEvents makes everybody who changes a task say so for the next five
// minutes. It returns a position after which everything is told that happens
// once [EventsLag] has passed.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) ListenEvents(ctx context.Context) (position string, err error) {
	pipe := s.client.TxPipeline()
	mark := pipe.XAdd(ctx, &redis.XAddArgs{Stream: eventsKey, MaxLen: eventsKept, Approx: true, Values: []string{eventMark, ""}})
	pipe.PExpire(ctx, eventsKey, eventsTTL)
	if _, err := pipe.Exec(ctx); err != nil {
		return "", storeError("listen to events", err)
	}
	return mark.Val(), nil
}

// EventsLag is how long it takes until everybody knows that somebody listens.
const EventsLag = eventsAsk + 100*time.Millisecond

// KeepEvents is [Store.ListenEvents] for who listens already.
//
// Errors: [ErrEventsGone] when it is too late for that,
// [messages.ErrStoreUnavailable].
func (s *Store) KeepEvents(ctx context.Context) error {
	there, err := s.client.PExpire(ctx, eventsKey, eventsTTL).Result()
	if err == nil && !there {
		return fmt.Errorf("keep events: %w", ErrEventsGone)
	}
	return storeError("keep events", err)
}

// Events returns up to n events after a position, the oldest first, and the
// position of the last entry that was looked at, to go on from. Of a task that
// changes quickly each change is told, in order. A change is not told when its
// teller dies, or loses Redis, just after having made it.
//
// Errors: [*messages.InvalidError] for a position that is none,
// [ErrEventsGone], [messages.ErrStoreUnavailable].
func (s *Store) Events(ctx context.Context, after string, n int) (events []Event, position string, err error) {
	if _, err := parsePosition(after); err != nil {
		return nil, "", err
	}
	pipe := s.client.TxPipeline()
	first := pipe.XRangeN(ctx, eventsKey, "-", "+", 1)
	entries := pipe.XRangeN(ctx, eventsKey, "("+after, "+", int64(n))
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, "", storeError("read events", err)
	}
	if len(first.Val()) == 0 || positionBefore(after, first.Val()[0].ID) {
		return nil, "", fmt.Errorf("read events: %w", ErrEventsGone)
	}
	position = after
	for _, entry := range entries.Val() {
		position = entry.ID
		if e, ok := newEvent(entry); ok {
			events = append(events, e)
		}
	}
	return events, position, nil
}

func newEvent(entry redis.XMessage) (Event, bool) {
	field := func(name string) string {
		text, _ := entry.Values[name].(string)
		return text
	}
	at, err := parsePosition(entry.ID)
	e := Event{
		Position: entry.ID, TaskID: field(eventID), State: messages.State(field(eventState)),
		Name: field(eventName), Queue: field(eventQueue), At: time.UnixMilli(at.ms).UTC(),
	}
	return e, err == nil && e.TaskID != ""
}

// eventPosition is the id of an entry of a stream.
type eventPosition struct{ ms, seq int64 }

func parsePosition(text string) (eventPosition, error) {
	ms, seq, found := strings.Cut(text, "-")
	p := eventPosition{}
	var err, seqErr error
	p.ms, err = strconv.ParseInt(ms, 10, 64)
	p.seq, seqErr = strconv.ParseInt(seq, 10, 64)
	if !found || err != nil || seqErr != nil || p.ms < 0 || p.seq < 0 {
		return p, &messages.InvalidError{Field: "position", Rule: "must be one that an event has"}
	}
	return p, nil
}

// positionBefore compares two positions that were parsed before.
func positionBefore(a, b string) bool {
	p, _ := parsePosition(a)
	q, _ := parsePosition(b)
	return p.ms < q.ms || p.ms == q.ms && p.seq < q.seq
}

// WatchEvents is [Watcher.Watch] for the events of all tasks: after a notice,
// read those after the last one.
func (w *Watcher) WatchEvents() (changed <-chan struct{}, stop func()) { return w.watch(eventsKey) }

// changes tells those who listen which tasks have changed. While nobody does
// that is a question in a round trip that is made anyway, twice a second at
// most.
type changes struct {
	client redis.UniversalClient
	log    *zap.Logger
	// asked is when the question was last asked, in nanoseconds since 1970, and
	// wanted the answer.
	asked  atomic.Int64
	wanted atomic.Bool
}

// ask adds the question to a round trip, where it is not known. What it returns
// is to be called when the answers are there.
func (c *changes) ask(ctx context.Context, pipe redis.Pipeliner) (wanted func() bool) {
	last, now := c.asked.Load(), time.Now().UnixNano()
	if now-last < int64(eventsAsk) || !c.asked.CompareAndSwap(last, now) {
		return c.wanted.Load
	}
	answer := pipe.Exists(ctx, eventsKey)
	return func() bool {
		if n, err := answer.Result(); err == nil {
			c.wanted.Store(n > 0)
		}
		return c.wanted.Load()
	}
}

// tell adds an entry for each record. What cannot be told now is not told: that
// the record is written is what counts.
func (c *changes) tell(ctx context.Context, records []*messages.Result) {
	if len(records) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventsTimeout)
	defer cancel()
	pipe := c.client.Pipeline()
	for _, r := range records {
		pipe.XAdd(ctx, &redis.XAddArgs{
			Stream: eventsKey, NoMkStream: true, MaxLen: eventsKept, Approx: true,
			Values: []string{eventID, r.TaskID, eventState, string(r.State), eventName, r.Name, eventQueue, r.Queue},
		})
	}
	pipe.Publish(ctx, eventsKey, "")
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		c.log.Debug("events not told", zap.Error(err))
	}
}
