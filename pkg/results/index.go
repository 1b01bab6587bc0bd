package results

import (
	"bytes"
	"cmp"
	"context"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// indexKey is followed by the shelf. The shelves have one hash tag, so that
	// they are together in a cluster.
	indexKey = "lovage:{index}:"
	// trimmedKey counts what the limit has cost.
	trimmedKey = indexKey + "trimmed"
	// trimEvery is the number of entries after which the index is trimmed: it
	// exceeds its limit by no more than this for each process.
	trimEvery = 1000
	// sweepSize is how many of the oldest entries of a shelf one trim looks at.
	sweepSize = 500
	// tidyEvery is how often the shelves of open tasks are looked over, tidySize
	// entries at a time.
	tidyEvery = time.Second
	tidySize  = 500
	// settledAfter is how long an entry of the index may wait for its record:
	// in a cluster the two are written by different nodes.
	settledAfter = time.Minute
)

// shelf is a part of the index: the tasks in one state, a sorted set whose
// members are ids, or packs of them on the one of those that succeeded. Each
// task stands on one shelf, so that the states cost nothing beside the index
// itself.
type shelf int

const (
	shelfPending shelf = iota
	shelfStarted       // also PROGRESS, RECEIVED and the states of Celery tasks' own
	shelfRetry
	shelfFailure
	shelfRevoked
	// shelfSuccess has packs. A list looks at it last: a task of a pack that runs
	// again stands somewhere else too, and that is right.
	shelfSuccess
	shelves
)

// openShelves are those that tasks leave.
const openShelves = shelfRetry + 1

func shelfOf(s messages.State) shelf {
	switch s {
	case messages.Pending:
		return shelfPending
	case messages.Retry:
		return shelfRetry
	case messages.Success:
		return shelfSuccess
	case messages.Failure:
		return shelfFailure
	case messages.Revoked:
		return shelfRevoked
	case messages.Received, messages.Started, messages.Progress:
	}
	return shelfStarted
}

func (s shelf) key() string {
	return indexKey + [shelves]string{"pending", "started", "retry", "failure", "revoked", "success"}[s]
}

// comesFrom reports whether a task can come to this shelf from the other.
func (s shelf) comesFrom(other shelf) bool {
	if s == shelfPending { // it was restarted
		return other != s
	}
	return other != s && other < openShelves
}

// place is where a task stands in the list: newest first, and what is of one
// millisecond by mark and id, from the last to the first. The score is the time
// of creation in milliseconds with the mark of the task as its fraction, which
// is what fits into the 53 bits of a score.
type place struct {
	score int64
	id    string
}

const (
	markBits  = 12
	markQueue = 4 // of them for the queue, the others for the name
)

func placeOf(r *messages.Result) place {
	mark := nameMark(r.Name)<<markQueue | queueMark(r.Queue)
	return place{score: created(r).UnixMilli()<<markBits | mark, id: r.TaskID}
}

// nameMark and queueMark tell most entries of other names and queues apart
// without a look at their records.
func nameMark(name string) int64   { return mark(name, markBits-markQueue) }
func queueMark(queue string) int64 { return mark(queue, markQueue) }

// mark is the end of the CRC-32 of a text, without a copy of it.
func mark(text string, bits int) int64 {
	sum := ^uint32(0)
	for i := range len(text) {
		sum = crc32.IEEETable[byte(sum)^text[i]] ^ sum>>8
	}
	return int64(^sum & (1<<bits - 1))
}

func (p place) created() time.Time { return time.UnixMilli(p.score >> markBits).UTC() }

// z is the entry of the place in a sorted set.
func (p place) z() redis.Z { return redis.Z{Score: float64(p.score) / (1 << markBits), Member: p.id} }

func placeFrom(z redis.Z) place {
	id, _ := z.Member.(string)
	return place{score: int64(z.Score * (1 << markBits)), id: id}
}

// bound is the score as Redis reads it.
func (p place) bound() string { return strconv.FormatFloat(p.z().Score, 'f', -1, 64) }

// comesAfter reports whether p comes later in the list than q; the place
// without an id is the beginning.
func (p place) comesAfter(q place) bool { return q.id == "" || newestFirst(q, p) < 0 }

// newestFirst orders places as the list does.
func newestFirst(p, q place) int {
	return cmp.Or(cmp.Compare(q.score, p.score), strings.Compare(q.id, p.id))
}

// index names the tasks by their states, newest first.
//
// It is written beside the records and not with them, so an entry may stand on a
// shelf that its task has left: readers believe the record, and put right what
// they come by.
type index struct {
	client redis.UniversalClient
	// limit is that of each shelf.
	limit int64
	// ttl is the age below which no entry is expected to be gone.
	ttl     time.Duration
	added   atomic.Int64
	trimmed atomic.Int64
	// swept is how many of the oldest entries are known to be alive (delayed
	// tasks, mostly), so that the next sweep looks behind them.
	swept [shelves]atomic.Int64
	// stride is how many members the next sweep gets, so that it does not get many
	// packs of which it looks at a few; zero for sweepSize.
	stride [shelves]atomic.Int64
}

// newIndex starts the count anywhere, so that many short-lived processes trim
// as often as one that lives long.
func newIndex(client redis.UniversalClient, limit int, ttl time.Duration) *index {
	x := &index{client: client, limit: int64(limit), ttl: ttl}
	x.added.Store(rand.Int64N(trimEvery))
	return x
}

// entry is a task on its shelf.
type entry struct {
	place
	shelf shelf
	first bool   // of no attempt has there been a retry
	pack  string // the member that it is in, empty when it is one itself
}

func entryOf(r *messages.Result) entry {
	return entry{place: placeOf(r), shelf: shelfOf(r.State), first: r.Retries == 0 && r.State != messages.Pending}
}

// remove queues that a task leaves the index.
func (x *index) remove(ctx context.Context, pipe redis.Pipeliner, id string) {
	for s := range shelves {
		pipe.ZRem(ctx, s.key(), id)
	}
}

// add queues entries. A task that stands on its shelf already keeps its place
// there.
func (x *index) add(ctx context.Context, pipe redis.Pipeliner, entries ...entry) {
	var on [shelves][]place
	for _, e := range entries {
		on[e.shelf] = append(on[e.shelf], e.place)
	}
	for s, members := range on {
		if len(members) == 0 {
			continue
		}
		if shelf(s) == shelfSuccess {
			members = pack(members)
		}
		args := append(make([]any, 0, 3+2*len(members)), "zadd", shelf(s).key(), "nx")
		for i := range members {
			args = append(args, members[i].z().Score, &members[i].id)
		}
		_ = pipe.Process(ctx, redis.NewIntCmd(ctx, args...)) // queues it
	}
}

// move queues entries as add does, and takes them from where they were.
func (x *index) move(ctx context.Context, pipe redis.Pipeliner, entries ...entry) {
	x.add(ctx, pipe, entries...)
	var leave [shelves][]any
	for i := range entries {
		e := &entries[i]
		for s := range shelves {
			if e.shelf.comesFrom(s) && (s != shelfRetry || !e.first) {
				leave[s] = append(leave[s], &e.id)
			}
		}
	}
	removeFrom(ctx, pipe, leave)
}

func removeFrom(ctx context.Context, pipe redis.Pipeliner, leave [shelves][]any) {
	for s, ids := range leave {
		if len(ids) > 0 {
			pipe.ZRem(ctx, shelf(s).key(), ids...)
		}
	}
}

// due counts entries and reports whether it is time to trim.
func (x *index) due(added int) bool {
	now := x.added.Add(int64(added))
	return now/trimEvery != (now-int64(added))/trimEvery
}

// trim drops what is over the limit, and of the oldest entries those whose
// record is gone.
func (x *index) trim(ctx context.Context) error {
	pipe := x.client.Pipeline()
	var cut [shelves]*redis.StringSliceCmd
	var oldest [shelves]*redis.ZSliceCmd
	for s := range shelves {
		cut[s] = pipe.ZRange(ctx, s.key(), 0, -x.limit-1)
		pipe.ZRemRangeByRank(ctx, s.key(), 0, -x.limit-1)
		oldest[s] = pipe.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: s.key(), ByScore: true, Start: "-inf", Stop: time.Now().Add(-x.ttl).UnixMilli(),
			Offset: x.swept[s].Load(), Count: or(x.stride[s].Load(), sweepSize),
		})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return storeError("trim index", err)
	}
	var trimmed int64
	var entries []entry
	var looked [shelves]int64
	for s := range shelves {
		for _, member := range cut[s].Val() {
			trimmed += int64(len(unpack(place{id: member})))
		}
		before := len(entries)
		for _, z := range oldest[s].Val() {
			if len(entries)-before >= sweepSize {
				break
			}
			entries = append(entries, s.entries(placeFrom(z))...)
			looked[s]++
		}
	}
	if trimmed > 0 {
		x.trimmed.Add(trimmed)
		if err := x.client.IncrBy(ctx, trimmedKey, trimmed).Err(); err != nil {
			return storeError("count what was trimmed", err)
		}
	}
	left, err := x.put(ctx, entries)
	if err != nil {
		return storeError("sweep index", err)
	}
	for s := range shelves {
		n := int64(len(oldest[s].Val()))
		if looked[s] == n && n < or(x.stride[s].Load(), sweepSize) {
			x.swept[s].Store(0)
		} else {
			x.swept[s].Add(looked[s] - left[s])
		}
		x.stride[s].Store(min(max(2*looked[s], 10), sweepSize))
	}
	return nil
}

// entries are those of a member.
func (s shelf) entries(member place) []entry {
	places := unpack(member)
	entries := make([]entry, len(places))
	for i, p := range places {
		entries[i] = entry{place: p, shelf: s}
		if p.id != member.id {
			entries[i].pack = member.id
		}
	}
	return entries
}

// put puts entries right whose records say something else: where the record is
// gone they leave the index, those of a pack when all records are. It counts the
// members that have left each shelf.
func (x *index) put(ctx context.Context, entries []entry) (left [shelves]int64, err error) {
	if len(entries) == 0 {
		return left, nil
	}
	pipe := x.client.Pipeline()
	heads := make([]*redis.StringCmd, len(entries))
	for i, e := range entries {
		heads[i] = pipe.GetRange(ctx, messages.ResultKey(e.id), 0, headSize-1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return left, err
	}
	var misfiled []filed
	var gone packsGone
	for i, e := range entries {
		switch state := headState(heads[i].Val()); {
		case heads[i].Val() == "" && time.Since(e.created()) > settledAfter:
			if gone.whole(&e) {
				misfiled = append(misfiled, filed{entry: e, gone: true})
			}
		case state != "" && shelfOf(state) != e.shelf && e.pack == "":
			misfiled = append(misfiled, filed{entry: e, state: state})
		}
	}
	for _, f := range misfiled {
		left[f.shelf]++
	}
	return left, x.refile(ctx, misfiled)
}

// packsGone counts the tasks of packs whose records are gone.
type packsGone map[string]int

// whole makes an entry whose record is gone that of its member, and reports
// whether nothing else is in it.
func (g *packsGone) whole(e *entry) bool {
	if e.pack == "" {
		return true
	}
	if *g == nil {
		*g = packsGone{}
	}
	(*g)[e.pack]++
	e.id = e.pack
	return (*g)[e.pack]*packedSize == len(e.pack)-len(packMark)
}

// filed is an entry whose task is gone, or in a state of another shelf.
type filed struct {
	entry
	gone  bool
	state messages.State
}

func (x *index) refile(ctx context.Context, misfiled []filed) error {
	if len(misfiled) == 0 {
		return nil
	}
	var leave [shelves][]any
	var entries []entry
	for _, f := range misfiled {
		leave[f.shelf] = append(leave[f.shelf], f.id)
		if !f.gone {
			entries = append(entries, entry{place: f.place, shelf: shelfOf(f.state)})
		}
	}
	pipe := x.client.Pipeline()
	x.add(ctx, pipe, entries...)
	removeFrom(ctx, pipe, leave)
	_, err := pipe.Exec(ctx)
	return err
}

// headSize is how much of a record is read for its state, which stands first.
const headSize = 48

// headState is the state of a record, by us or by Celery, empty where its
// beginning does not say.
func headState(head string) messages.State {
	rest, ok := bytes.CutPrefix([]byte(head), []byte(`{"status":`))
	if !ok {
		return ""
	}
	rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " "), []byte(`"`))
	state, _, closed := bytes.Cut(rest, []byte(`"`))
	if !ok || !closed {
		return ""
	}
	return messages.State(state)
}

// file moves a task to its shelf. It has got there by its record already, so an
// error is not the caller's.
func (s *Store) file(ctx context.Context, r *messages.Result) {
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		s.index.move(ctx, pipe, entryOf(r))
		for _, term := range r.Terms {
			s.addTerm(ctx, pipe, term, placeOf(r).z())
		}
		return nil
	})
	if err != nil {
		s.log.Debug("index not written", zap.String("task_id", r.TaskID), zap.Error(err))
	}
}

// trim bounds the index from time to time. What has been stored is not in
// question, so an error here is not the caller's. A caller that stops waits for
// it: what is dropped is to be counted.
func (s *Store) trim(ctx context.Context, added int) {
	if !s.index.due(added) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ioTimeout)
	defer cancel()
	if err := s.index.trim(ctx); err != nil {
		s.log.Debug("index not trimmed", zap.Error(err))
	}
}

// Trimmed is how many tasks this store has dropped from the list because it was
// at its limit.
func (s *Store) Trimmed() uint64 { return uint64(s.index.trimmed.Load()) }

// Tidy looks over the tasks that have not ended as far as the list knows, until
// ctx ends: some that Celery's workers took have, and who died may have left
// others where they are not any more. It blocks, and returns nil.
func (s *Store) Tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	var next [openShelves]place
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		try, cancel := context.WithTimeout(ctx, ioTimeout)
		for open := range openShelves {
			at, err := s.index.tidy(try, open, next[open])
			if err != nil {
				s.log.Debug("index not tidied", zap.Error(err))
				break
			}
			next[open] = at
		}
		cancel()
	}
}

// tidy looks over some entries of a shelf, newest first, and returns where to go
// on.
func (x *index) tidy(ctx context.Context, s shelf, after place) (place, error) {
	src := source{shelf: s, at: after, chunk: tidySize}
	if err := src.fill(ctx, x.client); err != nil {
		return after, err
	}
	if _, err := x.put(ctx, src.entries); err != nil {
		return after, err
	}
	if src.end {
		return place{}, nil
	}
	return src.at, nil
}
