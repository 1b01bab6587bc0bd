package rabbitmq

import (
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// confirmChannel is a channel in confirm mode: the messages that wait for their
// confirm, and those that came back. The library opens the channel and reads
// returned messages; the frames of messages and confirms are ours.
type confirmChannel struct {
	number uint16
	// returns has room for one: it is emptied before the next frame is read.
	returns chan amqp.Return
	// returned counts the messages that came back. Only the reader touches it.
	returned map[returnKey]int

	outstanding atomic.Int64
	lastConfirm atomic.Int64 // unix nanoseconds; also set when the first goes out

	mu sync.Mutex
	// jobs are in the order of their delivery tags, of which first is that of
	// jobs[0]. Those that were settled before their time are nil.
	jobs  []*job
	first uint64
}

// returnKey tells returns apart: one id may be in flight to two queues.
type returnKey struct {
	address Address
	id      string
}

func newConfirmChannel(number uint16) *confirmChannel {
	return &confirmChannel{number: number, returns: make(chan amqp.Return, 1), returned: map[returnKey]int{}, first: 1}
}

// add gives a job the next delivery tag. Messages are written in the order in
// which they are added.
func (c *confirmChannel) add(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs = append(c.jobs, j)
	if c.outstanding.Add(1) == 1 {
		c.lastConfirm.Store(time.Now().UnixNano())
	}
}

// take appends the jobs that an ack or a nack is about, and forgets them.
func (c *confirmChannel) take(jobs []*job, tag uint64, multiple bool) []*job {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, end := tag, tag+1
	if multiple {
		from = c.first
	}
	if multiple && tag == 0 { // all of them
		end = c.first + uint64(len(c.jobs))
	}
	return c.remove(jobs, from, end)
}

// takeAll appends all jobs, and forgets them.
func (c *confirmChannel) takeAll(jobs []*job) []*job { return c.take(jobs, 0, true) }

// remove removes the jobs with tags from from up to end, without it.
func (c *confirmChannel) remove(jobs []*job, from, end uint64) []*job {
	from, end = max(from, c.first), min(end, c.first+uint64(len(c.jobs)))
	before := len(jobs)
	for tag := from; tag < end; tag++ {
		slot := &c.jobs[tag-c.first]
		if *slot != nil {
			jobs = append(jobs, *slot)
			*slot = nil
		}
	}
	c.outstanding.Add(int64(before - len(jobs)))
	for len(c.jobs) > 0 && c.jobs[0] == nil {
		c.jobs = c.jobs[1:]
		c.first++
	}
	return jobs
}

// collect counts the message that came back last. The library's reader has put
// it into the buffer before it asks for the next frame.
func (c *confirmChannel) collect() {
	select {
	case r, ok := <-c.returns:
		if ok {
			c.returned[returnKey{Address{r.Exchange, r.RoutingKey}, r.MessageId}]++
		}
	default:
	}
}

// takeReturn reports whether the message came back unroutable, which it does
// before it is confirmed.
func (c *confirmChannel) takeReturn(j *job) bool {
	if len(c.returned) == 0 {
		return false
	}
	key := returnKey{j.address, j.message.MessageID}
	n := c.returned[key]
	if n > 1 {
		c.returned[key] = n - 1
	} else {
		delete(c.returned, key)
	}
	return n > 0
}
