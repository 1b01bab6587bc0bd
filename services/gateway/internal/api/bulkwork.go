package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// taskPage is how many tasks an operation works on before it goes on.
	taskPage = 500
	// tasksTogether is how many of them at a time.
	tasksTogether = 16
)

// taskDealer does something to the tasks of an operation, at its rate.
type taskDealer struct {
	api  *API
	work *work
	pace *rate.Limiter
	// done are the tasks of the page that were dealt with. After an error the
	// page is read again.
	done map[string]bool
}

// workOffTasks goes along the list of the tasks that are meant, once, and tries
// again what may only be away. When stop ends it returns the cause.
func (a *API) workOffTasks(ctx, stop context.Context, w *work) error {
	begun, pace := time.Now(), maxRate
	if r := w.snapshot().Rate; r != nil {
		pace = *r
	}
	d := &taskDealer{api: a, work: w, pace: rate.NewLimiter(rate.Limit(pace), 1), done: map[string]bool{}}
	for stop.Err() == nil {
		end, err := d.page(ctx, stop)
		switch {
		case stop.Err() != nil:
			continue
		case err == nil && end:
			return nil
		case err == nil:
			continue
		case a.givesUp(w, begun, err):
			return err
		}
		select {
		case <-time.After(a.operationTimes.pause):
		case <-stop.Done():
		}
	}
	return context.Cause(stop)
}

// page deals with the next page of the list, and tells whether it was the last.
// When stop ends it leaves the rest of the page.
func (d *taskDealer) page(ctx, stop context.Context) (end bool, err error) {
	if err := d.finish(ctx); err != nil {
		return false, err
	}
	b := d.work.snapshot().Bulk
	page, err := stored(ctx, d.api, func(ctx context.Context) (Page, error) {
		return d.api.opts.Results.List(ctx, b.Filter.filter(), b.Cursor, taskPage)
	})
	if err != nil {
		return false, err
	}
	tasks := slices.DeleteFunc(page.Results, func(r *messages.Result) bool { return d.done[r.TaskID] })
	if limit := b.Filter.Limit; limit != nil && b.Counts.Matched+len(tasks) > *limit {
		tasks, page.Next = tasks[:*limit-b.Counts.Matched], ""
		d.work.update(func(o *operationRecord) { o.More = true })
	}
	if err := d.deal(ctx, stop, tasks); err != nil || stop.Err() != nil {
		return false, err
	}
	d.work.update(func(o *operationRecord) {
		bulk := *o.Bulk
		bulk.Cursor, bulk.Begun = page.Next, nil
		o.Bulk = &bulk
	})
	clear(d.done)
	return page.Next == "", nil
}

func (d *taskDealer) deal(ctx, stop context.Context, tasks []*messages.Result) error {
	kind := d.work.snapshot().Kind
	if kind == kindRetry {
		return d.retry(ctx, stop, tasks)
	}
	do, known := map[string]func(context.Context, *messages.Result) (TaskCounts, error){
		kindCancel: d.cancel, kindDelete: d.delete,
	}[kind]
	if !known {
		return fmt.Errorf("nobody knows how to %q tasks", kind)
	}
	return d.each(ctx, stop, tasks, do)
}

// each does something to some tasks, several at a time. What has begun is
// finished, whatever becomes of the others.
func (d *taskDealer) each(ctx, stop context.Context, tasks []*messages.Result, do func(context.Context, *messages.Result) (TaskCounts, error)) error {
	var g errgroup.Group
	g.SetLimit(tasksTogether)
	for _, r := range tasks {
		if d.pace.Wait(stop) != nil {
			break
		}
		g.Go(func() error {
			counts, err := do(ctx, r)
			if p := problemOf(err); err != nil && p.Retryable {
				return err
			}
			if err != nil {
				d.api.opts.Log.Info("task left as it is", zap.String("task_id", r.TaskID), zap.Error(err))
				counts = TaskCounts{Left: 1}
			}
			d.count(r.TaskID, counts)
			return nil
		})
	}
	return g.Wait()
}

// count notes what has become of a task.
func (d *taskDealer) count(id string, c TaskCounts) {
	d.work.update(func(o *operationRecord) {
		d.done[id] = true
		bulk := *o.Bulk
		sum := &bulk.Counts
		sum.Matched++
		sum.Cancelled += c.Cancelled
		sum.Stopping += c.Stopping
		sum.Retried += c.Retried
		sum.Deleted += c.Deleted
		sum.Left += c.Left
		o.Bulk = &bulk
		o.Starts, o.Updated, o.Error = 0, time.Now().UTC(), nil
	})
}

func (d *taskDealer) cancel(ctx context.Context, r *messages.Result) (TaskCounts, error) {
	if !d.api.servesOurselves(r.Queue) {
		return TaskCounts{Left: 1}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.api.opts.ReadTimeout)
	defer cancel()
	_, outcome, err := d.api.opts.Canceller.Cancel(ctx, r.TaskID)
	switch {
	case err != nil:
		return TaskCounts{}, err
	case outcome == CancelRevoked:
		return TaskCounts{Cancelled: 1}, nil
	case outcome == CancelRequested:
		return TaskCounts{Stopping: 1}, nil
	}
	return TaskCounts{Left: 1}, nil
}

func (d *taskDealer) delete(ctx context.Context, r *messages.Result) (TaskCounts, error) {
	deleted, err := stored(ctx, d.api, func(ctx context.Context) (bool, error) { return d.api.opts.Deleter.Delete(ctx, r.TaskID) })
	if err != nil || !deleted {
		return TaskCounts{Left: 1}, err
	}
	return TaskCounts{Deleted: 1}, nil
}

// retry runs tasks again: those that are dead letters from these, in one pass
// for each queue, and all others from their records.
func (d *taskDealer) retry(ctx, stop context.Context, tasks []*messages.Result) error {
	dead := map[string]map[string]bool{} // the ids of each queue
	for _, r := range tasks {
		if r.State == messages.Failure && r.Reason != "" && d.api.servesOurselves(r.Queue) {
			if dead[r.Queue] == nil {
				dead[r.Queue] = map[string]bool{}
			}
			dead[r.Queue][r.TaskID] = true
		}
	}
	for _, queue := range slices.Sorted(maps.Keys(dead)) {
		if err := d.redrive(ctx, stop, queue, dead[queue]); err != nil || stop.Err() != nil {
			return err
		}
	}
	tasks = slices.DeleteFunc(tasks, func(r *messages.Result) bool { return d.done[r.TaskID] })
	// Whoever takes over after a crash has to know whose run may have begun
	// without its message.
	begun := map[string]int{}
	for _, r := range tasks {
		begun[r.TaskID] = r.Run + 1
	}
	d.work.update(func(o *operationRecord) {
		bulk := *o.Bulk
		bulk.Begun = begun
		o.Bulk = &bulk
	})
	if _, err := d.api.save(ctx, d.work, "", true); err != nil {
		return err
	}
	return d.each(ctx, stop, tasks, d.again)
}

// redrive sends the dead letters of some tasks again, as far as they are in
// their queue.
func (d *taskDealer) redrive(ctx, stop context.Context, queue string, ids map[string]bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.api.operationTimes.pass+d.api.opts.PassTimeout, errPassTooLong)
	defer cancel()
	return d.api.opts.DeadLetters.Pass(ctx, queue, func(ctx context.Context, m *messages.Message) (Verdict, error) {
		if len(ids) == 0 || stop.Err() != nil {
			return Stop, nil //nolint:nilerr // the end of stop is no failure of the pass
		}
		id := newDeadLetter(m).TaskID
		if !ids[id] {
			return Keep, nil
		}
		if d.pace.Wait(stop) != nil {
			return Stop, nil //nolint:nilerr // as above
		}
		var out dealt
		v, err := d.api.redrive(ctx, queue, m, nil, &out)
		if err != nil {
			return v, err
		}
		delete(ids, id)
		d.count(id, TaskCounts{Retried: out.Redriven, Left: 1 - out.Redriven})
		return v, nil
	})
}

// again runs a task again from its record.
func (d *taskDealer) again(ctx context.Context, r *messages.Result) (TaskCounts, error) {
	if r.Name == "" || !d.api.servesOurselves(r.Queue) {
		return TaskCounts{Left: 1}, nil
	}
	state, err := d.api.restart(ctx, d.api.taskOf(r))
	if err != nil || state != RestartReady {
		return TaskCounts{Left: 1}, err
	}
	return TaskCounts{Retried: 1}, nil
}

// finish publishes the runs that had begun when somebody died, or the broker went
// away. A message too many is recognised by whoever gets it.
func (d *taskDealer) finish(ctx context.Context) error {
	for id, run := range d.work.snapshot().Bulk.Begun {
		if d.done[id] {
			continue
		}
		r, err := d.api.get(ctx, id)
		switch {
		case errors.Is(err, messages.ErrNotFound):
			continue
		case err != nil:
			return err
		case r.State != messages.Pending || r.Run != run:
			continue
		}
		r.Run-- // which restart raises
		counts, err := d.again(ctx, r)
		if err != nil {
			return err
		}
		d.count(id, counts)
	}
	return nil
}
