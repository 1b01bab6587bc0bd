package results

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// maxPage bounds what one call of List returns, scanLimit what it reads to
	// find it, and readChunk what is read in one round trip.
	maxPage   = 500
	scanLimit = 5000
	readChunk = 100
	// settledAfter is how long an entry of the index may wait for its record:
	// in a cluster the two are written by different nodes.
	settledAfter = time.Minute
)

// Filter selects tasks; its zero value selects all. Since is inclusive and
// Until exclusive, by time of creation in milliseconds.
type Filter struct {
	States              []messages.State
	Name, Queue, Worker string
	Since, Until        time.Time
}

// selective reports whether the filter has to look into the records.
func (f Filter) selective() bool {
	return len(f.States) > 0 || f.Name != "" || f.Queue != "" || f.Worker != ""
}

func (f Filter) match(r *messages.Result) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, r.State)) &&
		(f.Name == "" || f.Name == r.Name) &&
		(f.Queue == "" || f.Queue == r.Queue) &&
		(f.Worker == "" || f.Worker == r.Worker)
}

// Page is a part of a list.
type Page struct {
	Results []*messages.Result
	// Next is the cursor of the next page, empty at the end.
	Next string
}

// Get returns the record of a task.
//
// Errors: [messages.ErrNotFound], [messages.ErrStoreUnavailable]; another one
// when the record cannot be read.
func (s *Store) Get(ctx context.Context, id string) (*messages.Result, error) {
	record, err := s.client.Get(ctx, messages.ResultKey(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("get result: %w: %w", messages.ErrNotFound, err)
	}
	if err != nil {
		return nil, storeError("get result", err)
	}
	r, err := decode(record)
	if err != nil {
		return nil, fmt.Errorf("get result: %w", err)
	}
	return r, nil
}

// decode reads a record with its result, also where that is packed.
func decode(record []byte) (*messages.Result, error) {
	r, err := messages.DecodeResult(record)
	if err == nil {
		err = r.Unpack()
	}
	return r, err
}

// List returns up to limit tasks (at most 500), newest first, from the cursor
// of an earlier page on; the cursor is empty for the first page. Packed results
// stay packed: only [Store.Get] unpacks. What arrives
// between two pages is on neither, and nothing is on two. One call reads 5,000
// records at most: a page may be short, even empty, and still have a Next.
//
// Errors: [*messages.InvalidError] for a cursor that is none of ours,
// [messages.ErrStoreUnavailable].
func (s *Store) List(ctx context.Context, f Filter, cursor string, limit int) (Page, error) {
	at, err := parseCursor(cursor)
	if err != nil {
		return Page{}, err
	}
	limit = min(max(limit, 1), maxPage)
	var page Page
	for scanned := 0; scanned < scanLimit; {
		want := readChunk
		if !f.selective() {
			want = min(readChunk, limit-len(page.Results)+1)
		}
		entries, err := s.entries(ctx, f, at, want)
		if err != nil {
			return Page{}, storeError("list tasks", err)
		}
		found, err := s.read(ctx, entries)
		if err != nil {
			return Page{}, storeError("list tasks", err)
		}
		for i, r := range found {
			if len(page.Results) == limit {
				page.Next = at.String()
				return page, nil
			}
			at = entries[i]
			if r != nil && f.match(r) {
				page.Results = append(page.Results, r)
			}
		}
		if len(entries) < want {
			return page, nil
		}
		scanned += len(entries)
	}
	page.Next = at.String()
	return page, nil
}

// entries returns the next entries of the index after a place in it. Those of
// the same millisecond that come before the place are skipped.
func (s *Store) entries(ctx context.Context, f Filter, after place, want int) ([]place, error) {
	query := redis.ZRangeArgs{
		Key: indexKey, ByScore: true, Rev: true, Start: "+inf", Stop: "-inf", Count: int64(want),
	}
	if !f.Since.IsZero() {
		query.Stop = f.Since.UnixMilli()
	}
	if !f.Until.IsZero() {
		query.Start = "(" + strconv.FormatInt(f.Until.UnixMilli(), 10)
	}
	if after.id != "" && (f.Until.IsZero() || after.score < f.Until.UnixMilli()) {
		query.Start = after.score
	}
	var entries []place
	for len(entries) < want {
		batch, err := s.client.ZRangeArgsWithScores(ctx, query).Result()
		if err != nil {
			return nil, err
		}
		for _, z := range batch {
			id, _ := z.Member.(string)
			if p := (place{score: int64(z.Score), id: id}); p.comesAfter(after) && len(entries) < want {
				entries = append(entries, p)
			}
		}
		if len(batch) < want {
			break
		}
		query.Offset += int64(len(batch))
	}
	return entries, nil
}

// read gets the records of the entries, nil where there is none. Entries whose
// record is gone leave the index.
func (s *Store) read(ctx context.Context, entries []place) ([]*messages.Result, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	cmds := make([]*redis.StringCmd, len(entries))
	for i, e := range entries {
		cmds[i] = pipe.Get(ctx, messages.ResultKey(e.id))
	}
	// The error of the pipeline is the first of its commands', read there.
	_, _ = pipe.Exec(ctx)

	found := make([]*messages.Result, len(entries))
	var gone []any
	for i, cmd := range cmds {
		record, err := cmd.Bytes()
		switch {
		case errors.Is(err, redis.Nil):
			if time.Since(time.UnixMilli(entries[i].score)) > settledAfter {
				gone = append(gone, entries[i].id)
			}
		case err != nil:
			return nil, err
		default:
			found[i] = s.decodeListed(entries[i], record)
		}
	}
	if len(gone) > 0 {
		if err := s.client.ZRem(ctx, indexKey, gone...).Err(); err != nil {
			s.log.Debug("index not swept", zap.Error(err))
		}
	}
	return found, nil
}

// decodeListed reads a record; one that cannot be read is left out of lists. A
// record that Celery wrote over ours does not say when the task was created,
// but the index does.
func (s *Store) decodeListed(e place, record []byte) *messages.Result {
	r, err := messages.DecodeResult(record)
	if err != nil {
		s.log.Debug("record not readable", zap.String("task_id", e.id), zap.Error(err))
		return nil
	}
	if r.DateCreated.IsZero() {
		r.DateCreated = time.UnixMilli(e.score).UTC()
	}
	return r
}

// place is an entry of the index, and so a place in the list: newest first,
// within a millisecond by id from the last to the first.
type place struct {
	score int64
	id    string
}

// comesAfter reports whether p comes later in the list than q; the place
// without an id is the beginning.
func (p place) comesAfter(q place) bool {
	if q.id == "" {
		return true
	}
	if p.score != q.score {
		return p.score < q.score
	}
	return p.id < q.id
}

// String is the cursor of the page that begins after p.
func (p place) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.score, 10) + ":" + p.id))
}

func parseCursor(cursor string) (place, error) {
	if cursor == "" {
		return place{}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	score, id, found := strings.Cut(string(text), ":")
	ms, numErr := strconv.ParseInt(score, 10, 64)
	if err != nil || numErr != nil || !found || id == "" {
		return place{}, &messages.InvalidError{Field: "cursor", Rule: "must be one that an earlier page gave"}
	}
	return place{score: ms, id: id}, nil
}
