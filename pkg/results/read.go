package results

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/pkg/messages"
)

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
