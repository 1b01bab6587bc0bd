package access

import (
	"context"
	_ "embed" // holds the script
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

//go:embed lua/rate.lua
var rateLua string

const (
	// rateKey, with the name, is when its bucket is full again.
	rateKey = "lovage:rate:"
	// rateTimeout is what a request waits at most to be counted for all
	// gateways, and awayFor how long none waits after one has in vain.
	rateTimeout = 50 * time.Millisecond
	awayFor     = time.Second
)

// Limiter counts requests by who sends them: for all gateways together, in
// Redis; while that is away, for each gateway by itself. Use [NewLimiter].
type Limiter struct {
	client redis.UniversalClient
	script *redis.Script
	rule   Rate
	log    *zap.Logger
	// timeout is rateTimeout.
	timeout time.Duration

	local Buckets
	// until is when Redis is asked again, in Unix nanoseconds.
	until atomic.Int64
	away  atomic.Bool
}

// NewLimiter returns a limiter; the rule is for those who have no rate of their
// own, and is no limit when it is zero.
func NewLimiter(client redis.UniversalClient, rule Rate, log *zap.Logger) *Limiter {
	return &Limiter{client: client, script: redis.NewScript(rateLua), rule: rule, log: log, timeout: rateTimeout}
}

// Take counts a request, and says whether it is within the rate. It waits 50 ms
// at most, and not at all for those without a limit.
func (l *Limiter) Take(ctx context.Context, g *Grant) Quota {
	rate := g.Rate
	if rate == (Rate{}) {
		rate = l.rule
	}
	if rate == (Rate{}) {
		return Quota{}
	}
	now := time.Now()
	if now.UnixNano() >= l.until.Load() {
		q, err := l.shared(ctx, g.Who, rate)
		if err == nil {
			if l.away.Swap(false) {
				l.log.Info("rates are counted for all gateways again")
			}
			return q
		}
		if ctx.Err() == nil { // else it is the client who is away
			l.until.Store(now.Add(awayFor).UnixNano())
			if !l.away.Swap(true) {
				l.log.Warn("rates are counted by each gateway for itself", zap.Error(err))
			}
		}
	}
	return l.local.Take(g.Who, rate, now)
}

func (l *Limiter) shared(ctx context.Context, who string, rate Rate) (Quota, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	interval, window := rate.interval(), rate.window()
	answer, err := l.script.Run(ctx, l.client, []string{rateKey + who}, max(1, interval.Microseconds()), window.Microseconds()).Int64Slice()
	switch {
	case err != nil:
		return Quota{}, err
	case len(answer) != 2:
		return Quota{}, fmt.Errorf("count a request: unexpected answer %v", answer)
	}
	full := time.Duration(answer[1]) * time.Microsecond
	if answer[0] == 1 {
		return rate.allowed(full), nil
	}
	return rate.refused(full), nil
}
