package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Progress is how far a program has come. The zero value has not begun.
type Progress struct {
	Done        atomic.Int64
	begin, ends atomic.Int64 // in nanoseconds, 0 when it has not
	told        atomic.Value // what there is to tell in place of the seconds
	busy        atomic.Pointer[func() int]
}

// Busy says how to ask for the number of tasks that run or are not settled.
func (p *Progress) Busy(ask func() int) { p.busy.Store(&ask) }

// Settled is how many tasks are done and settled, at least.
func (p *Progress) Settled() int64 {
	done := p.Done.Load() // before the other: what is done later may not be settled
	if ask := p.busy.Load(); ask != nil {
		done -= int64((*ask)())
	}
	return max(0, done)
}

// Started notes the time of the first task.
func (p *Progress) Started() { p.begin.CompareAndSwap(0, time.Now().UnixNano()) }

// Ended notes the end.
func (p *Progress) Ended() { p.ends.CompareAndSwap(0, time.Now().UnixNano()) }

// Over reports whether the end is noted.
func (p *Progress) Over() bool { return p.ends.Load() != 0 }

// Tell ends with a result of another kind.
func (p *Progress) Tell(result any) {
	p.told.Store(result)
	p.Ended()
}

// Await blocks until so many tasks are done and settled says so, which is asked
// every few milliseconds, and notes the end.
func (p *Progress) Await(ctx context.Context, tasks int64, settled func() (bool, error)) error {
	const every = 2 * time.Millisecond
	look := time.NewTicker(every)
	defer look.Stop()
	for {
		if p.Done.Load() >= tasks {
			if over, err := settled(); err != nil || over {
				p.Ended()
				return err
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Serve listens until ctx ends. It answers with 204, and once it is over with the
// seconds, or what there is to tell in their place. At /settled it answers with how
// many tasks are.
func (p *Progress) Serve(ctx context.Context, listen string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/settled" {
			_ = json.NewEncoder(w).Encode(p.Settled())
			return
		}
		if !p.Over() {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_ = json.NewEncoder(w).Encode(p.answer())
	})}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func (p *Progress) answer() any {
	if told := p.told.Load(); told != nil {
		return told
	}
	return time.Duration(p.ends.Load() - p.begin.Load()).Seconds()
}
