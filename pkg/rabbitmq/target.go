package rabbitmq

import (
	"sync"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// illAfter is how long a queue may confirm nothing of what it was sent while
// the broker's pulse is fine.
const illAfter = time.Second

// targets tells an ill queue from an ill broker. A queue that has lost its
// quorum says nothing: it neither confirms nor refuses, while everything else
// goes on. What is sent to it meanwhile would take up the whole in-flight
// limit, and slow down its connections.
type targets struct {
	mu     sync.Mutex
	byName map[string]*target
}

type target struct {
	jobs map[*job]struct{}
	// progress is when the broker last had a word for this target, or when
	// the first of the present jobs went out.
	progress time.Time
	ill      bool
}

// targetName is the queue that has to confirm: the first one on the way.
func targetName(a Address) string {
	switch a.Exchange {
	case "":
		return a.Key
	case deadExchange:
		return DeadQueue(a.Key)
	default:
		return a.Exchange
	}
}

// enter registers a job. An ill target takes one at a time, to find out when
// it is well again.
func (t *targets) enter(j *job) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := targetName(j.address)
	q := t.byName[name]
	if q == nil {
		q = &target{jobs: map[*job]struct{}{}}
		t.byName[name] = q
	}
	if len(q.jobs) == 0 {
		q.progress = time.Now()
	} else if q.ill {
		return messages.ErrQueueUnavailable
	}
	q.jobs[j] = struct{}{}
	j.trial = q.ill
	return nil
}

// word is what the broker said of a message.
type word int

const (
	noWord word = iota // nothing, or it was never sent
	refused
	confirmed
)

// leave removes a job. Any word is progress, and only a confirm heals: a queue
// without a leader refuses after a while what it was sent.
func (t *targets) leave(j *job, w word, now time.Time) {
	if t == nil {
		return // the pulse is taken of the broker, not of a queue
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	name := targetName(j.address)
	q := t.byName[name]
	if q == nil {
		return
	}
	delete(q.jobs, j)
	if w != noWord {
		q.progress = now
	}
	if w == confirmed {
		q.ill = false
	}
	if len(q.jobs) == 0 && !q.ill {
		delete(t.byName, name)
	}
}

// ill returns how many targets are.
func (t *targets) ill() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range t.byName {
		if q.ill {
			n++
		}
	}
	return n
}

// judge marks the targets ill that have made no progress for d, and frees what
// their jobs hold of the in-flight limit; the callers of those jobs go on
// waiting until their deadline. It returns all of them, and those that were
// well before.
func (t *targets) judge(d time.Duration) (ill, fresh []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, q := range t.byName {
		if len(q.jobs) == 0 || time.Since(q.progress) < d {
			continue
		}
		for j := range q.jobs {
			j.release()
		}
		ill = append(ill, name)
		if !q.ill {
			q.ill = true
			fresh = append(fresh, name)
		}
	}
	return ill, fresh
}
