package results

import (
	"context"
	"fmt"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// RestartState is the answer to a restart.
type RestartState string

// The answers to a restart.
const (
	// Restarted: publish the message of this run. It is also the answer when
	// the run has begun before and not ended.
	Restarted RestartState = "OK"
	// RestartSuperseded: this run has ended, or a later one has begun. Its
	// message would be dropped.
	RestartSuperseded RestartState = "SUPERSEDED"
	// RestartRunning: a worker holds an earlier run.
	RestartRunning RestartState = "RUNNING"
)

// Restart begins a run of a task that has ended: from now on its record is r, of
// state PENDING, and only messages of this run are run. Nothing is recorded of a
// task whose result is ignored.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Restart(ctx context.Context, r *messages.Result, ignoreResult bool) (RestartState, error) {
	record := []byte{}
	if !ignoreResult {
		var err error
		if record, err = encode(r); err != nil {
			return "", fmt.Errorf("restart task: %w", err)
		}
	}
	restart := call{script: s.scripts.restart, id: r.TaskID, args: []any{r.Run, record, s.pendingFor(r).Milliseconds()}}
	if !ignoreResult {
		restart.record = r
	}
	answer, err := s.groups.do(ctx, restart, nil).text()
	if err != nil {
		return "", storeError("restart task", err)
	}
	if RestartState(answer) == Restarted && !ignoreResult {
		s.file(ctx, r) // with its terms: its input may be another one
	}
	return RestartState(answer), nil
}
