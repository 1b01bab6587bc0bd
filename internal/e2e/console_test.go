package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A task is submitted through the form that its schema makes, its progress moves
// without a reload, and it is cancelled.
func TestConsoleSubmitsFollowsAndCancels(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	b := newBrowser(t, s)
	b.expect("status of 422") // of the form with a fault
	b.open("/console")
	b.sees("h1", "Overview")
	b.click(".top a", "Submit")
	b.click("main a", "sleep_task")
	b.sees("h1", "Submit sleep_task")

	// What the task does not take is said beside its field.
	b.enter("1000")
	b.click("button", "Submit")
	b.sees("#about-duration", "must be at most 300")
	b.enter("120")
	b.click("button", "Submit")
	b.at("/console/tasks/")
	b.sees(".notice", "Submitted")
	evaluate[any](b, "window.unloaded = false")
	b.sees(".head", "running")
	progress := func() float64 {
		return evaluate[float64](b, "document.querySelector('#progress progress')?.value ?? 0")
	}
	s.eventually(func() bool { return progress() > 0 }, "there is progress")
	first := progress()
	s.eventually(func() bool { return progress() > first }, "it moves")
	require.True(t, evaluate[bool](b, "window.unloaded === false"), "without a reload")
	b.shot("task-running")

	b.click("#cancel", "Cancel")
	b.sees(".head", "cancelled")
	b.seesNot(".head", "Cancel\n")
	b.shot("task-cancelled")
}
