package results

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Delete removes the record of a task that has ended, with its result, and takes
// it from all lists. What keeps the task from running again stays as long as it
// would have. False means that the task has not ended.
//
// Errors: [messages.ErrNotFound], [messages.ErrStoreUnavailable].
func (s *Store) Delete(ctx context.Context, id string) (deleted bool, err error) {
	head, err := s.client.GetRange(ctx, messages.ResultKey(id), 0, headSize-1).Result()
	if err != nil {
		return false, storeError("delete task", err)
	}
	if head == "" {
		return false, fmt.Errorf("delete task: %w", messages.ErrNotFound)
	}
	if !headState(head).Final() {
		return false, nil
	}
	answer, err := s.run(ctx, s.scripts.remove, id, head).text()
	if err != nil {
		return false, storeError("delete task", err)
	}
	if answer != "OK" {
		return false, nil
	}
	_, err = s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		s.index.remove(ctx, pipe, id)
		return nil
	})
	if err != nil { // its record is gone, so lists drop it when they come by
		s.log.Debug("index not written", zap.String("task_id", id), zap.Error(err))
	}
	return true, nil
}
