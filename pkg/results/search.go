package results

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// maxPage bounds what one call of List returns.
	maxPage = 500
	// One call looks at no more than scanLimit entries and reads no more than
	// readLimit records, goes on for no longer than scanTime, and stops when it
	// has got more than scanBytes.
	scanLimit = 50_000
	readLimit = 5000
	scanTime  = 10 * time.Millisecond
	scanBytes = 16 << 20
	// readChunk is how many records are read in one round trip, scanChunk how
	// many entries of a shelf.
	readChunk = 100
	scanChunk = 1000
)

// Filter selects tasks; its zero value selects all. Since is inclusive and
// Until exclusive, by time of creation in milliseconds.
type Filter struct {
	States              []messages.State
	Name, Queue, Worker string
	// Error is a part of the error's type or message, whatever the case.
	Error        string
	Since, Until time.Time
	// ID is how the id begins.
	ID string
	// Input are values of indexed fields, as [messages.Terms] writes them.
	Input map[string]string
}

// mayHold is what the bytes of a record say about what it is worth to decode.
func (f *Filter) mayHold(record []byte) bool {
	return holds(record, f.Worker, bytes.Contains) &&
		holds(record, f.Error, func(record, text []byte) bool { return bytes.Contains(bytes.ToLower(record), bytes.ToLower(text)) })
}

// holds reports whether a record may have a text in it. JSON has several ways to
// write all but the plainest, and an error is put together of several.
func holds(record []byte, text string, contains func(record, text []byte) bool) bool {
	for _, c := range []byte(text) {
		if c != ' ' && c != '_' && c != '-' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return true
		}
	}
	return text == "" || contains(record, []byte(text))
}

// match looks into the record.
func (f *Filter) match(r *messages.Result) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, r.State)) &&
		(f.Name == "" || f.Name == r.Name) &&
		(f.Queue == "" || f.Queue == r.Queue) &&
		(f.Worker == "" || f.Worker == r.Worker) &&
		(f.Error == "" || r.Error != nil && hasFold(r.Error.Type+": "+r.Error.Message, f.Error))
}

func hasFold(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// mayMatch is what an entry says without its record.
func (f *Filter) mayMatch(p place) bool {
	return (f.Name == "" || p.score>>markQueue&(1<<(markBits-markQueue)-1) == nameMark(f.Name)) &&
		(f.Queue == "" || p.score&(1<<markQueue-1) == queueMark(f.Queue)) &&
		strings.HasPrefix(p.id, f.ID)
}

// looksInside reports whether not every entry is one of the list.
func (f *Filter) looksInside() bool {
	return len(f.States) > 0 || f.Name != "" || f.Queue != "" || f.Worker != "" || f.Error != "" || f.ID != "" || len(f.Input) > 0
}

// shelves are those on which tasks can stand that the filter selects.
func (f *Filter) shelves() []shelf {
	states := f.States
	if len(states) == 0 && f.Error != "" {
		states = []messages.State{messages.Failure, messages.Retry, messages.Revoked}
	}
	var list []shelf
	for on := range shelves {
		if len(states) == 0 || slices.ContainsFunc(states, func(s messages.State) bool { return shelfOf(s) == on }) {
			list = append(list, on)
		}
	}
	return list
}

// idSpan is the time of creation of tasks whose ids begin so, with some leeway
// for clocks and for ids that callers made a while before they used them. Only
// the beginning of a UUIDv7 says something about that.
func idSpan(prefix string) (from, until time.Time, known bool) {
	const leeway = 10 * time.Minute
	digits := strings.ReplaceAll(prefix, "-", "")
	if len(digits) < 4 || len(digits) > 12 && digits[12] != '7' {
		return from, until, false
	}
	digits = digits[:min(len(digits), 12)]
	low, err := strconv.ParseInt(digits+strings.Repeat("0", 12-len(digits)), 16, 64)
	span := int64(1) << (4 * (12 - len(digits)))
	from, until = time.UnixMilli(low), time.UnixMilli(low+span)
	// Ids of other kinds begin by chance with a time of these years: one in 7000.
	recent := time.Since(until) < 365*24*time.Hour && time.Until(from) < time.Hour
	return from.Add(-leeway), until.Add(leeway), err == nil && recent
}

// Page is a part of a list.
type Page struct {
	Results []*messages.Result
	// Next is the cursor of the next page, empty at the end.
	Next string
	// Trimmed is how many tasks have been dropped from the list, by all stores,
	// because it was at its limit.
	Trimmed int
}

// List returns up to limit tasks (at most 500), newest first, from the cursor
// of an earlier page on; the cursor is empty for the first page. Packed results
// stay packed: only [Store.Get] unpacks. What arrives between two pages is on
// neither, and nothing is on two. One call looks at 50,000 tasks at most, reads
// 5,000 records and takes about 10 ms: a page may be short, even empty, and
// still have a Next.
//
// Errors: [*messages.InvalidError] for a cursor that is none of ours,
// [messages.ErrStoreUnavailable].
func (s *Store) List(ctx context.Context, f Filter, cursor string, limit int) (Page, error) {
	at, err := parseCursor(cursor)
	if err != nil {
		return Page{}, err
	}
	limit = min(max(limit, 1), maxPage)
	page, err := s.list(ctx, s.newWalk(f, at, min(limit+1, readChunk)), limit)
	if err != nil {
		return Page{}, storeError("list tasks", err)
	}
	return page, nil
}

func (s *Store) list(ctx context.Context, w *walk, limit int) (page Page, err error) {
	counted := s.client.Get(ctx, trimmedKey)
	if counted.Err() != nil && !errors.Is(counted.Err(), redis.Nil) {
		return page, counted.Err()
	}
	page.Trimmed, _ = counted.Int()
	var last place
	for read := 0; ; {
		want := readChunk
		if !w.filter.looksInside() {
			want = min(readChunk, limit-len(page.Results)+1)
		}
		entries, err := w.next(ctx, want)
		if err != nil {
			return page, err
		}
		found, err := s.read(ctx, w, entries)
		if err != nil {
			return page, err
		}
		for i, r := range found {
			if len(page.Results) == limit {
				page.Next = last.cursor()
				return page, nil
			}
			last = entries[i].place
			if r != nil && w.filter.match(r) {
				page.Results = append(page.Results, r)
			}
		}
		read += len(entries)
		switch {
		case w.ended():
			return page, nil
		case w.exhausted() || read >= readLimit:
			page.Next = w.at.cursor()
			return page, nil
		}
	}
}

// read gets the records of the entries, nil where there is none or it has not
// all the input that is asked for. Entries that are not where they belong are
// put right.
func (s *Store) read(ctx context.Context, w *walk, entries []entry) ([]*messages.Result, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	cmds := make([]*redis.StringCmd, len(entries))
	also := make([][]*redis.FloatCmd, len(entries))
	for i, e := range entries {
		cmds[i] = pipe.Get(ctx, messages.ResultKey(e.id))
		for _, term := range w.terms {
			also[i] = append(also[i], pipe.ZScore(ctx, term, e.id))
		}
	}
	// The error of the pipeline is the first of its commands', read there.
	_, _ = pipe.Exec(ctx)

	found := make([]*messages.Result, len(entries))
	var misfiled []filed
	for i, e := range entries {
		record, err := cmds[i].Bytes()
		switch {
		case errors.Is(err, redis.Nil):
			if time.Since(e.created()) > settledAfter && w.gone.whole(&e) {
				misfiled = append(misfiled, filed{entry: e, gone: true})
			}
			continue
		case err != nil:
			return nil, err
		}
		w.bytes += len(record)
		if !w.filter.mayHold(record) {
			continue
		}
		r := s.decodeListed(e.place, record)
		switch {
		case r == nil:
		case e.pack != "":
			// One that runs again is where it says.
			if shelfOf(r.State) != e.shelf || created(r).UnixMilli() != e.created().UnixMilli() {
				continue
			}
		case w.term == "" && shelfOf(r.State) != e.shelf:
			misfiled = append(misfiled, filed{entry: e, state: r.State})
		}
		missing := slices.ContainsFunc(also[i], func(c *redis.FloatCmd) bool { return c.Err() != nil })
		if !missing {
			found[i] = r
		}
	}
	var err error
	if w.term == "" {
		err = s.index.refile(ctx, misfiled)
	} else if len(misfiled) > 0 {
		err = s.client.ZRem(ctx, w.term, ids(misfiled)...).Err()
	}
	if err != nil {
		s.log.Debug("index not swept", zap.Error(err))
	}
	return found, nil
}

func ids(misfiled []filed) []any {
	out := make([]any, len(misfiled))
	for i, f := range misfiled {
		out[i] = f.id
	}
	return out
}

// decodeListed reads a record; one that cannot be read is left out of lists. A
// record that Celery wrote over ours does not say when the task was created,
// but the index does.
func (s *Store) decodeListed(p place, record []byte) *messages.Result {
	r, err := messages.DecodeResult(record)
	if err != nil {
		s.log.Debug("record not readable", zap.String("task_id", p.id), zap.Error(err))
		return nil
	}
	if r.DateCreated.IsZero() {
		r.DateCreated = p.created()
	}
	return r
}

// cursor is that of the page that begins after p.
func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.score, 10) + ":" + p.id))
}

func parseCursor(cursor string) (place, error) {
	if cursor == "" {
		return place{}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	score, id, found := strings.Cut(string(text), ":")
	n, numErr := strconv.ParseInt(score, 10, 64)
	if err != nil || numErr != nil || !found || id == "" {
		return place{}, &messages.InvalidError{Field: "cursor", Rule: "must be one that an earlier page gave"}
	}
	return place{score: n, id: id}, nil
}

const (
	termPrefix = "lovage:in:"
	// termLimit is how many tasks are found by one value.
	termLimit = 10_000
)

// termKey is the sorted set of the tasks with an indexed value, "field=value".
// A digest, because a value may be long, or nobody's business in a list of keys.
func termKey(term string) string {
	sum := sha256.Sum256([]byte(term))
	return termPrefix + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// indexSubmitted queues the entries of submissions.
func (s *Store) indexSubmitted(ctx context.Context, pipe redis.Pipeliner, batch []submission) {
	entries := make([]entry, len(batch))
	terms := map[string][]redis.Z{}
	for i, b := range batch {
		entries[i] = b.entry
		for _, term := range b.terms {
			terms[term] = append(terms[term], b.entry.z())
		}
	}
	s.index.add(ctx, pipe, entries...)
	for term, members := range terms {
		s.addTerm(ctx, pipe, term, members...)
	}
}

// addTerm queues the entries of tasks with an indexed value. Its set lives as
// long as the record of a task that has just been submitted, at least.
func (s *Store) addTerm(ctx context.Context, pipe redis.Pipeliner, term string, members ...redis.Z) {
	key := termKey(term)
	pipe.ZAddNX(ctx, key, members...)
	pipe.ZRemRangeByRank(ctx, key, 0, -termLimit-1)
	pipe.PExpire(ctx, key, s.pendingTTL+s.ttl)
}
