package results

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// taskLua stands before the scripts that read the task record.
//
//go:embed lua/task.lua
var taskLua string

// eachLua stands after them.
//
//go:embed lua/each.lua
var eachLua string

//go:embed lua/claim.lua
var claimLua string

//go:embed lua/begin.lua
var beginLua string

//go:embed lua/renew.lua
var renewLua string

//go:embed lua/release.lua
var releaseLua string

//go:embed lua/progress.lua
var progressLua string

//go:embed lua/settle.lua
var settleLua string

//go:embed lua/cancel.lua
var cancelLua string

//go:embed lua/restart.lua
var restartLua string

//go:embed lua/remove.lua
var removeLua string

//go:embed lua/done.lua
var doneLua string

//go:embed lua/forget.lua
var forgetLua string

//go:embed lua/reservekey.lua
var reserveKeyLua string

//go:embed lua/completekey.lua
var completeKeyLua string

//go:embed lua/releasekey.lua
var releaseKeyLua string

//go:embed lua/beginoperation.lua
var beginOperationLua string

//go:embed lua/takeoperation.lua
var takeOperationLua string

//go:embed lua/saveoperation.lua
var saveOperationLua string

//go:embed lua/canceloperation.lua
var cancelOperationLua string

//go:embed lua/takecallbacks.lua
var takeCallbacksLua string

// scripts are the Lua scripts with their digests.
type scripts struct {
	claim, begin, renew, release, progress, settle, done, forget, cancel, restart, remove *redis.Script
	reserveKey, completeKey, releaseKey                                                   *redis.Script
	beginOperation, takeOperation, saveOperation, cancelOperation                         *redis.Script
	takeCallbacks                                                                         *redis.Script
}

func newScripts() scripts {
	return scripts{
		claim:    newTaskScript(claimLua),
		begin:    newTaskScript(beginLua),
		renew:    newTaskScript(renewLua),
		release:  newTaskScript(releaseLua),
		progress: newTaskScript(progressLua),
		settle:   newTaskScript(settleLua),
		done:     newTaskScript(doneLua),
		forget:   redis.NewScript(forgetLua),
		cancel:   newTaskScript(cancelLua),
		restart:  newTaskScript(restartLua),
		remove:   newTaskScript(removeLua),

		reserveKey:  redis.NewScript(reserveKeyLua),
		completeKey: redis.NewScript(completeKeyLua),
		releaseKey:  redis.NewScript(releaseKeyLua),

		beginOperation:  redis.NewScript(beginOperationLua),
		takeOperation:   redis.NewScript(takeOperationLua),
		saveOperation:   redis.NewScript(saveOperationLua),
		cancelOperation: redis.NewScript(cancelOperationLua),

		takeCallbacks: redis.NewScript(takeCallbacksLua),
	}
}

// newTaskScript makes a script that runs for many tasks, one after the other.
func newTaskScript(body string) *redis.Script {
	return redis.NewScript(taskLua + "local function one(...)\n" + body + "end\n" + eachLua)
}

// answerLost is what a script answers to a token that does not hold the
// attempt.
const answerLost = "LOST"

// answerDone is what a script answers when it has done what it is for.
const answerDone = "OK"

// call is one run of a script for a task.
type call struct {
	script *redis.Script
	id     string
	// args are as many as in any other call of the script.
	args []any
	// record is what others are told of when the script has written it.
	record *messages.Result
}

func (c call) changes() bool { return c.record != nil }

// answer is what a script has answered for a task.
type answer struct {
	value any
	err   error
}

func (a answer) text() (string, error) {
	text, ok := a.value.(string)
	if !ok && a.err == nil {
		return "", fmt.Errorf("script answered %T", a.value)
	}
	return text, a.err
}

func (a answer) slice() ([]any, error) {
	values, ok := a.value.([]any)
	if !ok && a.err == nil {
		return nil, fmt.Errorf("script answered %T", a.value)
	}
	return values, a.err
}

// owned reads the answer of a script that says LOST to a foreign token.
func (a answer) owned(doing string) error {
	text, err := a.text()
	if err != nil {
		return storeError(doing, err)
	}
	if text == answerLost {
		return fmt.Errorf("%s: %w", doing, messages.ErrLost)
	}
	return nil
}

// run runs one script for a task, together with others that come at the same
// time.
func (s *Store) run(ctx context.Context, script *redis.Script, id string, args ...any) answer {
	return s.groups.do(ctx, call{script: script, id: id, args: args}, nil)
}

// pipeline carries out the calls, and what else is added to the pipe, in one round
// trip. A server that was restarted has lost the scripts: they are loaded again,
// and only what was refused for that is repeated.
func (s *Store) pipeline(ctx context.Context, calls []call, also func(redis.Pipeliner)) []answer {
	pipe := s.pipe(len(calls))
	batches := s.batches(calls)
	for _, b := range batches {
		b.queue(ctx, pipe)
	}
	if also != nil {
		also(pipe)
	}
	// The error of the pipeline is the first of its commands', read there.
	_, _ = pipe.Exec(ctx)

	again := s.client.Pipeline()
	for _, b := range batches {
		if !redis.HasErrorPrefix(b.cmd.Err(), "NOSCRIPT") {
			continue
		}
		if err := b.script.Load(ctx, s.client).Err(); err != nil {
			b.cmd.SetErr(err)
			continue
		}
		b.queue(ctx, again)
	}
	if again.Len() > 0 {
		_, _ = again.Exec(ctx)
	}
	answers := make([]answer, len(calls))
	for _, b := range batches {
		b.answer(answers)
	}
	return answers
}

// oneRead is how many calls Redis reads at a time, which are 16 kB.
const oneRead = 16

// pipe is a pipeline. Redis writes its log to the disk for what it carries out
// after each read, so where there is more than one, all of it is carried out at
// the end.
func (s *Store) pipe(calls int) redis.Pipeliner {
	if calls > oneRead && !s.spread {
		return s.client.TxPipeline()
	}
	return s.client.Pipeline()
}

// batch is a script with the calls of it. As one command they cost half of what
// they do one by one.
type batch struct {
	script *redis.Script
	calls  []int // their places
	keys   []string
	args   []any
	cmd    *redis.Cmd
}

// batches puts calls of one script together, where all keys are on one server.
func (s *Store) batches(calls []call) []*batch {
	var all []*batch
	for i, c := range calls {
		at := slices.IndexFunc(all, func(b *batch) bool { return b.script == c.script })
		if at < 0 || s.spread {
			at = len(all)
			all = append(all, s.batch(c, len(calls)-i))
		}
		b := all[at]
		b.calls = append(b.calls, i)
		b.keys = append(b.keys, messages.ResultKey(c.id), taskKey(c.id))
		b.args = append(b.args, c.args...)
	}
	return all
}

// batch has room for one call, or so many where there can be more.
func (s *Store) batch(c call, calls int) *batch {
	if s.spread {
		calls = 1
	}
	return &batch{
		script: c.script, calls: make([]int, 0, calls),
		keys: make([]string, 0, 2*calls), args: make([]any, 0, len(c.args)*calls),
	}
}

func (b *batch) queue(ctx context.Context, pipe redis.Pipeliner) {
	b.cmd = b.script.EvalSha(ctx, pipe, b.keys, b.args...)
}

// answer puts the answers into the places of the calls.
func (b *batch) answer(answers []answer) {
	values, err := b.cmd.Slice()
	if err == nil && len(values) != len(b.calls) {
		err = fmt.Errorf("script answered %d values for %d tasks", len(values), len(b.calls))
	}
	for i, at := range b.calls {
		if err != nil {
			answers[at].err = err
		} else if failed, is := values[i].(error); is {
			answers[at].err = failed
		} else {
			answers[at].value = values[i]
		}
	}
}
