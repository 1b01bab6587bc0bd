package results

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// commandsKept is how many commands wait for one worker at most; the oldest
	// are forgotten beyond.
	commandsKept = 32
	// commandLife is how long a command waits for its worker when whoever gave it
	// cannot take it back, and how long an answer is kept.
	commandLife = 30 * time.Second
	// takeBackTimeout bounds what is left to do when the time for an answer is over.
	takeBackTimeout = time.Second
)

// commandsKey is the list of the ids of commands that a worker has not taken, and
// the channel of notices about it; commandKey holds one of them, and answerKey,
// which is a channel too, what the worker says.
func commandsKey(worker string) string { return workerKey(worker) + ":commands" }
func commandKey(id string) string      { return "lovage:command:" + id }
func answerKey(id string) string       { return "lovage:answer:" + id }

// WatchCommands is [Watcher.Watch] for what a worker is told: after a notice, take
// its commands.
func (w *Watcher) WatchCommands(worker string) (changed <-chan struct{}, stop func()) {
	return w.watch(commandsKey(worker))
}

// Tell gives a worker a command and waits for its answer until ctx ends. Then the
// command is taken back: the answer is [messages.Undelivered] when the worker had
// not seen it, and [messages.Taken] when it had. The watcher must be running.
//
// Errors: [messages.ErrNotFound] when there is no such worker,
// [messages.ErrStoreUnavailable] when the command may not have got anywhere.
func (s *Store) Tell(ctx context.Context, w *Watcher, worker string, c messages.WorkerCommand) (messages.WorkerAnswer, messages.Delivery, error) {
	var none messages.WorkerAnswer
	c.ID = messages.NewID()
	if err := s.give(ctx, worker, c); err != nil {
		return none, "", err
	}
	changed, stop := w.watch(answerKey(c.ID))
	defer stop()
	for {
		answer, err := s.answer(ctx, c.ID)
		if err == nil {
			return answer, messages.Answered, nil
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		}
		return s.takeBack(ctx, c.ID)
	}
}

func (s *Store) give(ctx context.Context, worker string, c messages.WorkerCommand) error {
	alive, err := s.client.Exists(ctx, workerKey(worker)).Result()
	if err != nil {
		return storeError("tell worker", err)
	}
	if alive == 0 {
		return fmt.Errorf("tell worker: %w", messages.ErrNotFound)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode command: %w", err)
	}
	// The command is there before the worker hears of it.
	if err := s.client.Set(ctx, commandKey(c.ID), text, commandLife).Err(); err != nil {
		return storeError("tell worker", err)
	}
	_, err = s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.RPush(ctx, commandsKey(worker), c.ID)
		pipe.LTrim(ctx, commandsKey(worker), -commandsKept, -1)
		pipe.PExpire(ctx, commandsKey(worker), commandLife)
		pipe.Publish(ctx, commandsKey(worker), "")
		return nil
	})
	return storeError("tell worker", err)
}

// answer is [messages.ErrNotFound] while there is none.
func (s *Store) answer(ctx context.Context, id string) (messages.WorkerAnswer, error) {
	var a messages.WorkerAnswer
	text, err := s.client.Get(ctx, answerKey(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return a, messages.ErrNotFound
	}
	if err != nil {
		return a, storeError("read answer of worker", err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("read answer of worker: %w", err)
	}
	return a, nil
}

// takeBack ends the wait for an answer. What it deletes nobody can take any more.
func (s *Store) takeBack(ctx context.Context, id string) (messages.WorkerAnswer, messages.Delivery, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTimeout)
	defer cancel()
	var none messages.WorkerAnswer
	deleted, err := s.client.Del(ctx, commandKey(id)).Result()
	if err != nil {
		return none, "", storeError("take command back", err)
	}
	if deleted > 0 {
		return none, messages.Undelivered, nil
	}
	if answer, err := s.answer(ctx, id); err == nil {
		return answer, messages.Answered, nil
	}
	return none, messages.Taken, nil
}

// TakeCommands returns what the worker was told since the last call and has not
// been taken back. Each command is returned once.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) TakeCommands(ctx context.Context, worker string) ([]messages.WorkerCommand, error) {
	ids, err := s.client.LPopCount(ctx, commandsKey(worker), commandsKept).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, storeError("take commands", err)
	}
	var commands []messages.WorkerCommand
	for _, id := range ids {
		text, err := s.client.GetDel(ctx, commandKey(id)).Bytes()
		if errors.Is(err, redis.Nil) {
			continue // it was taken back
		}
		if err != nil {
			return commands, storeError("take commands", err)
		}
		var c messages.WorkerCommand
		if err := json.Unmarshal(text, &c); err != nil {
			s.log.Debug("command not readable", zap.Error(err))
			continue
		}
		c.ID = id
		commands = append(commands, c)
	}
	return commands, nil
}

// AnswerCommand says what the worker has done of a command.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) AnswerCommand(ctx context.Context, id string, a messages.WorkerAnswer) error {
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	_, err = s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, answerKey(id), text, commandLife)
		pipe.Publish(ctx, answerKey(id), "")
		return nil
	})
	return storeError("answer command", err)
}
