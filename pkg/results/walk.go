package results

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// source is a sorted set whose entries are taken one after the other, newest
// first.
type source struct {
	key     string // of another set than that of the shelf
	shelf   shelf
	span    span
	chunk   int   // how many members to get; twice as many the next time, if that were few tasks
	last    place // the last member that was got
	entries []entry
	later   []entry // of members that were got, but others may come before them
	at      place   // the last of entries
	end     bool    // nothing comes after at
}

// span is a time of creation, from since on to before until; zero is no bound.
type span struct{ since, until time.Time }

func (s span) has(at time.Time) bool {
	return !at.Before(s.since) && (s.until.IsZero() || at.Before(s.until))
}

// packs reports whether there may be packs.
func (x *source) packs() bool { return x.key == "" && x.shelf == shelfSuccess }

// query is for the members from the last one on, or those that come after at.
// A pack may have in it what is so much older.
func (x *source) query(count int) redis.ZRangeArgs {
	q := redis.ZRangeArgs{
		Key: cmp.Or(x.key, x.shelf.key()), ByScore: true, Rev: true, Start: "+inf", Stop: "-inf", Count: int64(count),
	}
	ahead := int64(0)
	if x.packs() {
		ahead = packSpan
	}
	if !x.span.since.IsZero() {
		q.Stop = strconv.FormatInt(x.span.since.UnixMilli(), 10)
	}
	switch {
	case x.last.id != "":
		q.Start = x.last.bound()
	case x.at.id != "":
		q.Start = place{score: x.at.score + ahead}.bound()
	case !x.span.until.IsZero():
		q.Start = "(" + place{score: x.span.until.UnixMilli()<<markBits + ahead}.bound()
	}
	return q
}

// fill gets more entries. Members of the score of the last one are got again:
// which of them come after it is told by their names.
func (x *source) fill(ctx context.Context, client redis.Cmdable) error {
	want, got := x.chunk, 0
	query := x.query(want)
	for len(x.entries) == 0 && !x.end {
		batch, err := client.ZRangeArgsWithScores(ctx, query).Result()
		if err != nil {
			return err
		}
		for _, z := range batch {
			member := placeFrom(z)
			if !member.comesAfter(x.last) {
				continue
			}
			x.last = member
			entries := x.shelf.entries(member)
			got += len(entries)
			for _, e := range entries {
				if e.comesAfter(x.at) && x.span.has(e.created()) {
					x.later = append(x.later, e)
				}
			}
		}
		x.end = len(batch) < want
		query.Offset += int64(len(batch))
		x.ripen()
	}
	if n := len(x.entries); n > 0 {
		x.at = x.entries[n-1].place
	}
	if got < scanChunk {
		x.chunk = min(2*x.chunk, scanChunk)
	} else {
		x.chunk = max(x.chunk/2, 1)
	}
	return nil
}

// ripen takes over what nothing comes before any more: the tasks of the members
// that follow are as old as the last one, or older.
func (x *source) ripen() {
	n := len(x.later)
	if x.packs() {
		ripe := func(e entry) bool { return x.end || e.score > x.last.score }
		if !slices.ContainsFunc(x.later, ripe) {
			return
		}
		slices.SortFunc(x.later, func(a, b entry) int { return newestFirst(a.place, b.place) })
		n = sort.Search(n, func(i int) bool { return !ripe(x.later[i]) })
	}
	x.entries, x.later = x.later[:n:n], x.later[n:]
}

// walk goes along the list, newest first.
type walk struct {
	client redis.Cmdable
	filter Filter
	// term is the set of an indexed value, which is walked along instead of the
	// shelves, and terms are those of the others.
	term    string
	terms   []string
	sources []*source
	at      place // the last entry that was looked at
	gone    packsGone
	looked  int
	bytes   int
	until   time.Time
}

// newWalk begins after a place. A source gets so many entries at first.
func (s *Store) newWalk(f Filter, after place, chunk int) *walk {
	w := &walk{client: s.client, filter: f, at: after, until: time.Now().Add(scanTime)}
	within := span{since: f.Since.Truncate(time.Millisecond), until: f.Until.Truncate(time.Millisecond)}
	if from, to, known := idSpan(f.ID); known {
		within.since = later(within.since, from)
		if within.until.IsZero() || to.Before(within.until) {
			within.until = to
		}
	}
	if !within.until.IsZero() && after.score>>markBits >= within.until.UnixMilli() {
		after = place{}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Input)) {
		w.terms = append(w.terms, termKey(name+"="+f.Input[name]))
	}
	if len(w.terms) > 0 {
		w.term, w.terms = w.terms[0], w.terms[1:]
		w.sources = []*source{{key: w.term, span: within, at: after, chunk: chunk}}
		return w
	}
	for _, on := range f.shelves() {
		w.sources = append(w.sources, &source{shelf: on, span: within, at: after, chunk: chunk})
	}
	return w
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// next returns up to want entries that may be of the list; fewer when it has
// ended, or the walk is exhausted.
func (w *walk) next(ctx context.Context, want int) ([]entry, error) {
	var out []entry
	for len(out) < want && !w.exhausted() {
		first, err := w.first(ctx)
		if err != nil || first == nil {
			return out, err
		}
		e := first.entries[0]
		first.entries = first.entries[1:]
		if e.place == w.at {
			continue // it changes its shelf just now
		}
		w.at = e.place
		w.looked++
		if w.filter.mayMatch(e.place) {
			out = append(out, e)
		}
	}
	return out, nil
}

// first is the source whose next entry is the newest, nil at the end.
func (w *walk) first(ctx context.Context) (*source, error) {
	var first *source
	for _, src := range w.sources {
		if len(src.entries) == 0 && !src.end {
			if err := src.fill(ctx, w.client); err != nil {
				return nil, err
			}
		}
		if len(src.entries) > 0 && (first == nil || first.entries[0].comesAfter(src.entries[0].place)) {
			first = src
		}
	}
	return first, nil
}

func (w *walk) ended() bool {
	return !slices.ContainsFunc(w.sources, func(s *source) bool { return len(s.entries) > 0 || !s.end })
}

// exhausted reports whether the walk has gone on for long enough. On a machine
// that is busy it gets somewhere all the same.
func (w *walk) exhausted() bool {
	return w.looked >= scanLimit || w.bytes > scanBytes ||
		w.looked >= readChunk && w.filter.looksInside() && time.Now().After(w.until)
}
