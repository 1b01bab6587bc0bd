package results

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// taskLua stands before the scripts that read the task record.
//
//go:embed lua/task.lua
var taskLua string

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
		claim:    redis.NewScript(taskLua + claimLua),
		begin:    redis.NewScript(taskLua + beginLua),
		renew:    redis.NewScript(taskLua + renewLua),
		release:  redis.NewScript(taskLua + releaseLua),
		progress: redis.NewScript(taskLua + progressLua),
		settle:   redis.NewScript(taskLua + settleLua),
		done:     redis.NewScript(taskLua + doneLua),
		forget:   redis.NewScript(forgetLua),
		cancel:   redis.NewScript(taskLua + cancelLua),
		restart:  redis.NewScript(taskLua + restartLua),
		remove:   redis.NewScript(taskLua + removeLua),

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

// answerLost is what a script answers to a token that does not hold the
// attempt.
const answerLost = "LOST"

// answerDone is what a script answers when it has done what it is for.
const answerDone = "OK"

// call is one run of a script on the two keys of a task.
type call struct {
	script *redis.Script
	id     string
	args   []any
	// record is what others are told of when the script has written it.
	record *messages.Result
}

func (c call) changes() bool { return c.record != nil }

// run runs one script on the keys of a task, together with others that come at
// the same time.
func (s *Store) run(ctx context.Context, script *redis.Script, id string, args ...any) *redis.Cmd {
	return s.groups.do(ctx, call{script: script, id: id, args: args}, nil)
}

// runOwned runs a script that answers LOST to a foreign token.
func (s *Store) runOwned(ctx context.Context, doing string, script *redis.Script, id string, args ...any) error {
	return owned(doing, s.run(ctx, script, id, args...))
}

// owned reads the answer of such a script.
func owned(doing string, cmd *redis.Cmd) error {
	answer, err := cmd.Text()
	if err != nil {
		return storeError(doing, err)
	}
	if answer == answerLost {
		return fmt.Errorf("%s: %w", doing, messages.ErrLost)
	}
	return nil
}

// pipeline runs the scripts, and what else is added to the pipe, in one round
// trip. Each command carries its own error. A server that was restarted has
// lost the scripts: they are loaded again, and only what was refused for that
// is repeated.
func (s *Store) pipeline(ctx context.Context, calls []call, also func(redis.Pipeliner)) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	pipe := s.client.Pipeline()
	for i, c := range calls {
		cmds[i] = c.queue(ctx, pipe)
	}
	if also != nil {
		also(pipe)
	}
	// The error of the pipeline is the first of its commands', read there.
	_, _ = pipe.Exec(ctx)

	again := s.client.Pipeline()
	loaded := map[*redis.Script]error{}
	for i, c := range calls {
		if !errors.Is(cmds[i].Err(), redis.ErrNoScript) && !redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT") {
			continue
		}
		if _, known := loaded[c.script]; !known {
			loaded[c.script] = c.script.Load(ctx, s.client).Err()
		}
		if err := loaded[c.script]; err != nil {
			cmds[i].SetErr(err)
			continue
		}
		cmds[i] = c.queue(ctx, again)
	}
	if again.Len() > 0 {
		_, _ = again.Exec(ctx)
	}
	return cmds
}

func (c call) queue(ctx context.Context, pipe redis.Pipeliner) *redis.Cmd {
	return c.script.EvalSha(ctx, pipe, []string{messages.ResultKey(c.id), taskKey(c.id)}, c.args...)
}
