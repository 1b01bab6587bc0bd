package messages

// State is the state of a task, in Celery's terms (celery/states.py).
type State string

// The states that a task can be in.
const (
	Pending  State = "PENDING"
	Received State = "RECEIVED"
	Started  State = "STARTED"
	Progress State = "PROGRESS"
	Retry    State = "RETRY"
	Success  State = "SUCCESS"
	Failure  State = "FAILURE"
	Revoked  State = "REVOKED"
)

// States returns every state in the order in which a task passes through them.
func States() []State {
	return []State{Pending, Received, Started, Progress, Retry, Success, Failure, Revoked}
}

// Final reports whether a run in this state has ended. Celery calls these
// READY_STATES.
func (s State) Final() bool {
	return s == Success || s == Failure || s == Revoked
}
