package worker

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// taskLabel marks the goroutines of a task, those that its handler starts
	// included, in profiles of any kind.
	taskLabel = "task_id"
	// maxDump bounds what is told of the goroutines of a task, in bytes.
	maxDump = 64 << 10
)

// labelled marks this goroutine, and those that it starts, as ones of the task.
func labelled(ctx context.Context, t *messages.Task) context.Context {
	ctx = pprof.WithLabels(ctx, pprof.Labels(taskLabel, t.ID))
	pprof.SetGoroutineLabels(ctx)
	return ctx
}

// dump tells what the goroutines of a task are doing, also of one whose handler
// was left behind. Goroutines that stand at the same place are told once, with
// their number.
func dump(taskID string) messages.WorkerAnswer {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return messages.WorkerAnswer{Refused: fmt.Sprintf("the goroutines cannot be read: %v", err)}
	}
	var a messages.WorkerAnswer
	var out strings.Builder
	_, stacks, _ := strings.Cut(profile.String(), "\n") // the first line counts them all
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if !ofTask(stack, taskID) {
			continue
		}
		number, _, _ := strings.Cut(stack, " ")
		n, _ := strconv.Atoi(number)
		a.Goroutines += n
		if out.Len()+len(stack)+2 > maxDump {
			a.Truncated = true
			continue
		}
		if out.Len() > 0 {
			out.WriteString("\n\n")
		}
		out.WriteString(stack)
	}
	if a.Goroutines == 0 {
		a.Refused = "no goroutine of this task is here: it has ended, or runs elsewhere"
	}
	a.Dump = out.String()
	return a
}

// ofTask looks at the labels of a stack, which are in its second line as
// # labels: {"name":"value", "other":"value"}, quoted as Go quotes.
func ofTask(stack, taskID string) bool {
	_, rest, _ := strings.Cut(stack, "\n")
	line, _, _ := strings.Cut(rest, "\n")
	labels, found := strings.CutPrefix(line, "# labels: {")
	return found && strings.Contains(", "+labels, fmt.Sprintf(", %q:%q", taskLabel, taskID))
}
