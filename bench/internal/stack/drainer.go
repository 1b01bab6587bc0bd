package stack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Drainer starts a program that works off so many messages of the queue: a
// worker of ours with slots, or a loop when slots is 0.
func (s *Stack) Drainer(ctx context.Context, messages, slots int) (*Service, error) {
	return s.start(ctx, "drainer", func(address string) []string {
		return []string{
			"--listen=" + address, "--amqp-url=" + s.RabbitMQ.URL(), "--redis-url=" + s.Redis.URL(), "--queue=" + Queue,
			"--task=" + Task, "--messages=" + strconv.Itoa(messages), "--slots=" + strconv.Itoa(slots),
		}
	}, none)
}

var errEnded = errors.New("it has ended")

// Drained waits until a drainer is through, and returns how long it has taken
// from its first message on.
func Drained(ctx context.Context, v *Service) (took time.Duration, err error) {
	wrong := poll(ctx, "the queue is worked off", func() bool {
		if !v.Alive() {
			err = errEnded
			return true
		}
		seconds, ok := drained(ctx, v)
		took = time.Duration(seconds * float64(time.Second))
		return ok
	})
	return took, errors.Join(err, wrong)
}

func drained(ctx context.Context, v *Service) (seconds float64, ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.Address, http.NoBody)
	if err != nil {
		return 0, false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, false
	}
	defer func() { _ = res.Body.Close() }()
	return seconds, res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(&seconds) == nil
}
