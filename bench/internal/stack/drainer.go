package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Drainer starts a program that works off so many messages of the queue: a
// worker of ours with slots, or a loop when slots is 0.
func (s *Stack) Drainer(ctx context.Context, messages, slots int, more ...string) (*Service, error) {
	return s.start(ctx, "drainer", func(address string) []string {
		return append([]string{
			"--listen=" + address, "--amqp-url=" + s.RabbitMQ.URL(), "--redis-url=" + s.Redis.URL(), "--queue=" + Queue,
			"--task=" + Task, "--messages=" + strconv.Itoa(messages), "--slots=" + strconv.Itoa(slots),
		}, more...)
	}, none)
}

var errEnded = errors.New("it has ended")

// Drained waits until a drainer is through, and returns how long it has taken
// from its first message on.
func Drained(ctx context.Context, v *Service) (took time.Duration, err error) {
	var seconds float64
	err = ended(ctx, v, &seconds)
	return time.Duration(seconds * float64(time.Second)), err
}

// PickUp starts a program that sends so many tasks at a rate and takes them, and
// returns the quantiles of the milliseconds from the confirm of each to its
// beginning.
func (s *Stack) PickUp(ctx context.Context, messages, slots int, rate float64) (times map[string]float64, err error) {
	v, err := s.Drainer(ctx, messages, slots, fmt.Sprintf("--rate=%v", rate))
	if err != nil {
		return nil, err
	}
	if err := ended(ctx, v, &times); err != nil {
		return nil, v.Explain(err)
	}
	return times, v.End()
}

// ended waits for the result of a drainer.
func ended(ctx context.Context, v *Service, result any) (err error) {
	wrong := poll(ctx, "the queue is worked off", func() bool {
		if !v.Alive() {
			err = errEnded
			return true
		}
		return tells(ctx, v, result)
	})
	return errors.Join(err, wrong)
}

func tells(ctx context.Context, v *Service, result any) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.Address, http.NoBody)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(result) == nil
}
