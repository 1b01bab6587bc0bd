package results

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// openOperationsKey is a hash: field is the queue, value the id of its
	// operation that has not ended. The braces put all keys of operations into
	// one slot of a cluster; they are few and small.
	openOperationsKey = "lovage:{operations}:open"
	// operationsKey, with the queue, is the list of its operations, the newest
	// first.
	operationsKey = "lovage:{operations}:of:"
	// operationKey, with the id, is a hash; operationLeaseKey lives as long as
	// somebody works on it.
	operationKey      = "lovage:{operations}:op:"
	operationLeaseKey = "lovage:{operations}:lease:"
	// listedOperations is how many operations of a queue are kept.
	listedOperations = 20
)

// Operation is something long that is done with a queue. What it is and how far
// it is, only its record says, which is opaque here.
type Operation struct {
	ID, Queue string
	Record    []byte
	// State is what it ended in, empty before.
	State string
	// Held says that somebody works on it.
	Held bool
	// Cancelled says that it was asked to stop.
	Cancelled bool
}

// BeginOperation enters an operation that its caller works on under a token,
// which nobody else uses. A queue has one at a time that has not ended: when
// there is another, nothing is entered and its id is the answer. The newest 20
// of a queue are kept. The lease is that of the store.
//
// Errors: [messages.ErrStoreUnavailable]. It may have begun all the same then,
// and is free for a taking over after the lease.
func (s *Store) BeginOperation(ctx context.Context, o Operation, token string) (running string, err error) {
	answer, err := s.scripts.beginOperation.Run(ctx, s.client, operationKeys(o),
		o.Queue, o.ID, o.Record, token, s.lease.Milliseconds(), listedOperations).StringSlice()
	switch {
	case err != nil:
		return "", storeError("begin operation", err)
	case answer[0] != "OK":
		return answer[1], nil
	}
	for _, id := range answer[1:] {
		// One that stays is gone with its TTL.
		_ = s.client.Del(ctx, operationKey+id).Err()
	}
	return "", nil
}

// TakeOperation takes over an operation that nobody works on any more.
//
// Errors: [messages.ErrLost] when somebody does or it has ended,
// [messages.ErrStoreUnavailable].
func (s *Store) TakeOperation(ctx context.Context, id, token string) (Operation, error) {
	answer, err := s.scripts.takeOperation.Run(ctx, s.client, []string{operationKey + id, operationLeaseKey + id},
		token, s.lease.Milliseconds()).StringSlice()
	switch {
	case err != nil:
		return Operation{}, storeError("take operation", err)
	case answer[0] != "OK":
		return Operation{}, fmt.Errorf("take operation: %w", messages.ErrLost)
	}
	return Operation{ID: id, Queue: answer[1], Record: []byte(answer[2]), Held: true}, nil
}

// SaveOperation writes the record of an operation, and renews the lease if Held
// is set. Otherwise it gives the operation back for others to take over, or,
// with a State, ends it: it is kept for the TTL of the store from then on. The
// answer is whether it was asked to stop.
//
// Errors: [messages.ErrLost] when the token does not hold the operation (any
// more), [messages.ErrStoreUnavailable].
func (s *Store) SaveOperation(ctx context.Context, o Operation, token string) (cancelled bool, err error) {
	lease := s.lease.Milliseconds()
	if !o.Held {
		lease = 0
	}
	answer, err := s.scripts.saveOperation.Run(ctx, s.client, operationKeys(o),
		o.Queue, o.ID, token, o.Record, lease, o.State, s.ttl.Milliseconds()).Text()
	switch {
	case err != nil:
		return false, storeError("save operation", err)
	case answer == answerLost:
		return false, fmt.Errorf("save operation: %w", messages.ErrLost)
	}
	return answer == "CANCEL", nil
}

// CancelOperation asks whoever works on an operation to stop.
//
// Errors: [messages.ErrNotFound] when there is no such operation that has not
// ended, [messages.ErrStoreUnavailable].
func (s *Store) CancelOperation(ctx context.Context, id string) error {
	answer, err := s.scripts.cancelOperation.Run(ctx, s.client, []string{operationKey + id}).Text()
	if err == nil && answer == answerLost {
		return fmt.Errorf("cancel operation: %w", messages.ErrNotFound)
	}
	return storeError("cancel operation", err)
}

// Operations returns those of a queue, the newest first.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Operations(ctx context.Context, queue string) ([]Operation, error) {
	ids, err := s.client.LRange(ctx, operationsKey+queue, 0, -1).Result()
	if err != nil {
		return nil, storeError("list operations", err)
	}
	return s.readOperations(ctx, ids)
}

// OpenOperations returns those of all queues that have not ended.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) OpenOperations(ctx context.Context) ([]Operation, error) {
	ids, err := s.client.HVals(ctx, openOperationsKey).Result()
	if err != nil {
		return nil, storeError("list open operations", err)
	}
	return s.readOperations(ctx, ids)
}

func (s *Store) readOperations(ctx context.Context, ids []string) ([]Operation, error) {
	fields, leases := make([]*redis.SliceCmd, len(ids)), make([]*redis.IntCmd, len(ids))
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			fields[i] = pipe.HMGet(ctx, operationKey+id, "queue", "record", "state", "cancel")
			leases[i] = pipe.Exists(ctx, operationLeaseKey+id)
		}
		return nil
	})
	if err != nil {
		return nil, storeError("read operations", err)
	}
	operations := make([]Operation, 0, len(ids))
	for i, id := range ids {
		field := func(n int) string {
			text, _ := fields[i].Val()[n].(string)
			return text
		}
		if field(0) == "" {
			continue // its time is over
		}
		operations = append(operations, Operation{
			ID: id, Queue: field(0), Record: []byte(field(1)), State: field(2), Cancelled: field(3) != "", Held: leases[i].Val() == 1,
		})
	}
	return operations, nil
}

func operationKeys(o Operation) []string {
	return []string{openOperationsKey, operationsKey + o.Queue, operationKey + o.ID, operationLeaseKey + o.ID}
}
