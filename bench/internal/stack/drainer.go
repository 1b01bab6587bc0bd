package stack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"time"
)

// Settled is how many tasks these workers have run, with what came of it stored.
func Settled(ctx context.Context, workers []*Service) (sum int, err error) {
	for _, v := range workers {
		var n int
		if !v.Alive() || !tells(ctx, v, "/settled", &n) {
			return 0, v.Explain(errors.New("ask how many tasks are settled"))
		}
		sum += n
	}
	return sum, nil
}

// Drainer starts a program that works off the queue: a worker of ours with slots,
// or a loop without.
func (s *Stack) Drainer(ctx context.Context, w Work) (*Service, error) {
	return Build{stack: s}.Drainer(ctx, w)
}

// Drainer starts a program that works off the queue.
func (b Build) Drainer(ctx context.Context, w Work) (*Service, error) {
	s := b.stack
	flags := append(w.flags(), "--amqp-url="+s.amqpURL(), "--redis-url="+s.redisURL(), "--queue="+Queue, "--task="+Task+","+BenchTask)
	if w.Part {
		flags = append(flags, "--part")
	}
	return s.start(ctx, filepath.Join(b.dir, "drainer"),
		func(address string) []string { return append(flags, "--listen="+address) },
		func(string) []string { return w.Env })
}

// drainLimit is how long a queue may take to be worked off.
const drainLimit = 20 * time.Minute

var errEnded = errors.New("it has ended")

// Drained waits until a drainer is through, and returns how long it has taken
// from its first message on.
func Drained(ctx context.Context, v *Service) (took time.Duration, err error) {
	var seconds float64
	err = ended(ctx, v, &seconds)
	return time.Duration(seconds * float64(time.Second)), err
}

// PickedUp waits for a program that sends tasks at a rate and takes them, ends it,
// and returns the quantiles of the milliseconds from the confirm of each to its
// beginning.
func PickedUp(ctx context.Context, v *Service) (times map[string]float64, err error) {
	if err := ended(ctx, v, &times); err != nil {
		return nil, v.Explain(err)
	}
	return times, v.End()
}

// ended waits for the result of a drainer.
func ended(ctx context.Context, v *Service, result any) (err error) {
	wrong := pollFor(ctx, drainLimit, "the queue is worked off", func() bool {
		if !v.Alive() {
			err = errEnded
			return true
		}
		return tells(ctx, v, "/", result)
	})
	return errors.Join(err, wrong)
}

func tells(ctx context.Context, v *Service, path string, result any) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.Address+path, http.NoBody)
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
