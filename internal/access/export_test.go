package access

import "time"

// XAdd is how an entry is written.
var XAdd = xadd //nolint:gochecknoglobals // for the tests outside

// SetTimeout sets how long Redis has to count a request.
func (l *Limiter) SetTimeout(d time.Duration) { l.timeout = d }
