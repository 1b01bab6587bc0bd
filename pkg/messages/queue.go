package messages

import "strings"

// QueueState says what is done with a queue.
type QueueState string

// The states of queues.
const (
	QueueRunning  QueueState = "running"
	QueuePaused   QueueState = "paused"   // workers take nothing from it
	QueueDraining QueueState = "draining" // it takes no new tasks, and workers go on
)

// maxQueueName leaves room in AMQP's 255 bytes for the 56 of a delay and for
// the suffix of the dead letters.
const maxQueueName = 100

// ValidQueue reports whether name can be the name of a work queue: 1 to 100 of
// letters, digits, '.', '_' and '-', and none of the names that the broker,
// Celery or Lovage itself use. The error is an [*InvalidError].
func ValidQueue(name string) error {
	if rule := queueRule(name); rule != "" {
		return &InvalidError{Field: "queue", Rule: rule}
	}
	return nil
}

func queueRule(name string) string {
	switch {
	case name == "":
		return "must not be empty"
	case len(name) > maxQueueName:
		return "must not be longer than 100 characters"
	case strings.IndexFunc(name, notQueueRune) >= 0:
		return "must consist of letters, digits, '.', '_' and '-'"
	case strings.HasSuffix(name, ".dead"):
		return `must not end in ".dead": that is where dead letters go`
	case reservedQueue(name):
		return "is a name that the broker, Celery or Lovage uses itself"
	}
	return ""
}

func notQueueRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return r != '.' && r != '_' && r != '-'
}

func reservedQueue(name string) bool {
	for _, prefix := range []string{"amq.", "lovage.", "lovage_delayed", "celery_delayed", "celeryev."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == "celeryev" || name == "celery.pidbox" || strings.HasSuffix(name, ".celery.pidbox")
}
