package results

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redis/go-redis/v9"
)

// logKept is how many lines of a task are kept, the last ones.
const logKept = 100

func logKey(id string) string { return "lovage:log:" + id }

// LogLines are lines that a task has logged, each a JSON object.
type LogLines struct {
	TaskID string
	Lines  [][]byte
	// TTL is how long they are kept, counted from the last that is added; the
	// store's own when it is zero.
	TTL time.Duration
}

// AppendLogs adds lines to the logs of tasks in one round trip. Of each task the
// last 100 lines are kept. When there is an error some may have been added.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) AppendLogs(ctx context.Context, logs []LogLines) error {
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, l := range logs {
			lines := make([]any, len(l.Lines))
			for i, line := range l.Lines {
				lines[i] = line
			}
			key := logKey(l.TaskID)
			pipe.RPush(ctx, key, lines...)
			pipe.LTrim(ctx, key, -logKept, -1)
			pipe.PExpire(ctx, key, or(l.TTL, s.ttl))
		}
		return nil
	})
	return storeError("write logs of tasks", err)
}

// Log returns the lines that a task has logged, the oldest first; none when it has
// logged nothing, or for too long ago.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Log(ctx context.Context, id string) ([]json.RawMessage, error) {
	values, err := s.client.LRange(ctx, logKey(id), -logKept, -1).Result()
	if err != nil {
		return nil, storeError("read log of task", err)
	}
	lines := make([]json.RawMessage, 0, len(values))
	for _, value := range values {
		if json.Valid([]byte(value)) {
			lines = append(lines, json.RawMessage(value))
		}
	}
	return lines, nil
}
