package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/lovage-mq/lovage/internal/access"
)

// Rates counts the requests of each credential. [access.Limiter] does.
type Rates interface {
	Take(ctx context.Context, g *access.Grant) access.Quota
}

// ratePolicy is the name of the one policy that there is.
const ratePolicy = "default"

// withinRate tells a client what is left of its rate, in the fields of
// draft-ietf-httpapi-ratelimit-headers-10, and refuses what is over it.
func withinRate(w http.ResponseWriter, r *http.Request, q access.Quota) bool {
	if q.Limit == 0 {
		return true
	}
	w.Header().Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", ratePolicy, q.Limit, wholeSeconds(q.Window)))
	w.Header().Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", ratePolicy, q.Remaining, wholeSeconds(q.Reset)))
	if q.RetryAfter == 0 {
		return true
	}
	p := newProblem(slugRate, fmt.Sprintf("the credential may be used %d times in %d s; the RateLimit fields say what is left", q.Limit, max(1, wholeSeconds(q.Window))))
	p.ViolatedPolicies = []string{ratePolicy}
	p.after = time.Duration(max(1, wholeSeconds(q.RetryAfter))) * time.Second
	p.write(w, r)
	return false
}

func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
