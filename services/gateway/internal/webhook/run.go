package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

// Run calls back until ctx ends, and returns nil when the calls in flight are
// over. What takes longer than a moment then is left to others. It does nothing
// where no host may be called.
func (s *Sender) Run(ctx context.Context) error {
	if s.opts.Allow.Empty() {
		<-ctx.Done()
		return nil
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopTimeout, stop) })()
	var working sync.WaitGroup
	defer s.client.CloseIdleConnections()
	defer working.Wait()
	places := make(chan struct{}, together)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
		for more := true; more && ctx.Err() == nil; {
			more = s.round(ctx, work, places, &working)
		}
	}
}

// round works on what is due, as far as there are places, and reports whether
// there may be more.
func (s *Sender) round(ctx, work context.Context, places chan struct{}, working *sync.WaitGroup) (more bool) {
	s.hasten(ctx)
	free := cap(places) - len(places)
	if free == 0 {
		return false // the next tick finds one
	}
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	taken, err := s.opts.Store.TakeCallbacks(bounded, free, lease)
	if err != nil {
		s.opts.Log.Debug("callbacks not looked for", zap.Error(err))
		return false
	}
	for _, c := range taken {
		if !s.begin(c.ID) {
			continue
		}
		places <- struct{}{}
		working.Go(func() {
			defer func() { <-places }()
			defer s.end(c.ID)
			s.work(work, c)
		})
	}
	return len(taken) == free
}

// hasten makes due what a notice has come of. Those that are being worked on
// have their turn afterwards.
func (s *Sender) hasten(ctx context.Context) {
	s.mu.Lock()
	var ids []string
	for id := range s.told {
		if _, busy := s.busy[id]; !busy {
			ids = append(ids, id)
			delete(s.told, id)
		}
	}
	s.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.opts.Store.HastenCallbacks(ctx, ids...); err != nil {
		s.opts.Log.Debug("callbacks not hastened", zap.Error(err)) // they are looked at all the same
	}
}

// begin marks a callback as being worked on. One that is already has its turn
// again afterwards.
func (s *Sender) begin(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, busy := s.busy[id]; busy {
		s.told[id] = struct{}{}
		return false
	}
	s.busy[id] = struct{}{}
	return true
}

func (s *Sender) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, id)
	if _, told := s.told[id]; told {
		s.notify()
	}
}

// work does with a callback what is to be done now. When the store is away it
// stays as it is, and is due again when the lease is over.
func (s *Sender) work(ctx context.Context, c results.Callback) {
	log := s.opts.Log.With(zap.String("task_id", c.ID))
	r, err := decode(c.Record)
	if err != nil {
		log.Error("callback not readable", zap.Error(err))
		return
	}
	if r.Body == nil {
		task, err := s.look(ctx, c.ID)
		switch {
		case err != nil && !errors.Is(err, messages.ErrNotFound):
			return
		case err != nil && time.Since(r.Since) > s.opts.Keep:
			s.giveUp(ctx, log, c.ID, r)
			return
		case err != nil || !task.State.Final():
			s.postpone(ctx, log, c.ID, time.Now().Add(pause(time.Since(r.Since))))
			return
		}
		s.unwatch(c.ID)
		if r.Body, err = body(task); err != nil {
			log.Error("callback not made", zap.Error(err))
			return
		}
	}
	s.attempt(ctx, log, c.ID, r)
}

func (s *Sender) look(ctx context.Context, id string) (*messages.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.opts.Store.Get(ctx, id)
}

// pause is how long to wait before a task is looked at again that could begin so
// long ago.
func pause(since time.Duration) time.Duration {
	return min(max(since/4, firstLook), longestLook)
}

// attempt calls once, and keeps what has become of it.
func (s *Sender) attempt(ctx context.Context, log *zap.Logger, id string, r record) {
	begun := time.Now()
	status, again, err := s.call(ctx, r)
	a := api.CallbackAttempt{At: begun.UTC(), Took: time.Since(begun).Seconds()}
	if err != nil && ctx.Err() != nil {
		return // the gateway stops: another one calls
	}
	if status > 0 {
		a.Status = &status
	}
	if err != nil {
		a.Error = err.Error()
	}
	r.Attempts++
	r.Latest = append(r.Latest, a)
	r.Latest = r.Latest[max(0, len(r.Latest)-shownAttempts):]
	r.State, r.Next = api.CallbackDelivered, time.Time{}
	switch {
	case err == nil:
		s.outcomes.WithLabelValues("delivered").Inc()
	case again >= 0 && r.Attempts <= len(s.waits):
		r.State = api.CallbackDelivering
		wait := max(s.waits[r.Attempts-1], again)
		r.Next = time.Now().Add(wait + rand.N(wait/10+1)).UTC()
		s.outcomes.WithLabelValues("again").Inc()
	default:
		r.State = api.CallbackFailed
		s.outcomes.WithLabelValues("failed").Inc()
		log.Warn("callback given up", zap.Int("attempts", r.Attempts), zap.Error(err))
	}
	s.save(ctx, log, id, r, r.Next)
}

// giveUp ends a callback of a task of which there is no record: it was not sent,
// or its record was gone before anybody looked.
func (s *Sender) giveUp(ctx context.Context, log *zap.Logger, id string, r record) {
	s.unwatch(id)
	r.State, r.Latest = api.CallbackFailed, append(r.Latest, api.CallbackAttempt{At: time.Now().UTC(), Error: "there is no record of the task"})
	s.save(ctx, log, id, r, time.Time{})
}

func (s *Sender) postpone(ctx context.Context, log *zap.Logger, id string, due time.Time) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.opts.Store.PostponeCallback(ctx, id, due, s.opts.Keep); err != nil {
		log.Debug("callback not postponed", zap.Error(err)) // it is due when the lease is over
	}
}

func (s *Sender) save(ctx context.Context, log *zap.Logger, id string, r record, due time.Time) {
	keep := s.opts.Keep
	if due.IsZero() {
		keep = s.opts.Retention
	}
	c, err := encode(id, r)
	if err == nil {
		bounded, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		err = s.opts.Store.SaveCallback(bounded, c, due, keep)
	}
	if err != nil {
		log.Warn("callback not saved, it is made again", zap.Error(err))
	}
}

// body is what a callback tells.
func body(r *messages.Result) (json.RawMessage, error) {
	task, err := api.ShowTask(r)
	if err != nil {
		return nil, err
	}
	kind := map[messages.State]string{messages.Success: "task.succeeded", messages.Failure: "task.failed", messages.Revoked: "task.revoked"}[r.State]
	at := r.DateDone
	if at.IsZero() {
		at = time.Now()
	}
	return json.Marshal(struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{kind, at.UTC(), task})
}
