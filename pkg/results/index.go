package results

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// indexKey is a sorted set: member is the id, score the time of creation
	// in milliseconds.
	indexKey = "lovage:index"
	// trimEvery is the number of entries after which the index is trimmed: it
	// exceeds its limit by no more than this for each process.
	trimEvery = 1000
	// sweepSize is how many of the oldest entries one trim looks at.
	sweepSize = 500
)

// index names the tasks, newest first.
type index struct {
	client redis.UniversalClient
	limit  int64
	// ttl is the age below which no entry is expected to be gone.
	ttl   time.Duration
	added atomic.Int64
	// swept is how many of the oldest entries are known to be alive (delayed
	// tasks, mostly), so that the next sweep looks behind them.
	swept atomic.Int64
}

// newIndex starts the count anywhere, so that many short-lived processes trim
// as often as one that lives long.
func newIndex(client redis.UniversalClient, limit int, ttl time.Duration) *index {
	x := &index{client: client, limit: int64(limit), ttl: ttl}
	x.added.Store(rand.Int64N(trimEvery))
	return x
}

// indexEntry is a task in the index.
func indexEntry(id string, at time.Time) redis.Z {
	return redis.Z{Score: float64(at.UnixMilli()), Member: id}
}

// add queues entries. The time of one that is there already stays.
func (x *index) add(ctx context.Context, pipe redis.Pipeliner, entries ...redis.Z) {
	pipe.ZAddNX(ctx, indexKey, entries...)
}

// due counts entries and reports whether it is time to trim.
func (x *index) due(added int) bool {
	now := x.added.Add(int64(added))
	return now/trimEvery != (now-int64(added))/trimEvery
}

// trim drops what is over the limit, and of the oldest entries those whose
// record is gone.
func (x *index) trim(ctx context.Context) error {
	if err := x.client.ZRemRangeByRank(ctx, indexKey, 0, -x.limit-1).Err(); err != nil {
		return storeError("trim index", err)
	}
	from := x.swept.Load()
	ids, err := x.client.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: indexKey, ByScore: true, Start: "-inf", Stop: time.Now().Add(-x.ttl).UnixMilli(),
		Offset: from, Count: sweepSize,
	}).Result()
	if err != nil {
		return storeError("sweep index", err)
	}
	gone, err := x.gone(ctx, ids)
	if err != nil {
		return storeError("sweep index", err)
	}
	if len(gone) > 0 {
		if err := x.client.ZRem(ctx, indexKey, gone...).Err(); err != nil {
			return storeError("sweep index", err)
		}
	}
	if len(ids) < sweepSize {
		x.swept.Store(0)
	} else {
		x.swept.Store(from + int64(len(ids)-len(gone)))
	}
	return nil
}

// gone returns the ids without a record.
func (x *index) gone(ctx context.Context, ids []string) ([]any, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	pipe := x.client.Pipeline()
	found := make([]*redis.IntCmd, len(ids))
	for i, id := range ids {
		found[i] = pipe.Exists(ctx, messages.ResultKey(id))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	var gone []any
	for i, cmd := range found {
		if cmd.Val() == 0 {
			gone = append(gone, ids[i])
		}
	}
	return gone, nil
}

// trim bounds the index from time to time. What has been stored is not in
// question, so an error here is not the caller's.
func (s *Store) trim(ctx context.Context, added int) {
	if !s.index.due(added) {
		return
	}
	if err := s.index.trim(ctx); err != nil {
		s.log.Debug("index not trimmed", zap.Error(err))
	}
}
