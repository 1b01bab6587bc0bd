// Package histogram makes all histograms alike: a native one, which is exact at
// every size, and classic buckets beside it, for those who do not scrape native
// ones.
package histogram

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// factor is by how much the bounds of a native bucket differ at most.
	factor = 1.1
	// A histogram that needs more than maxBuckets starts again, once an hour at
	// most, and makes do with wider ones until then.
	maxBuckets = 160
	minReset   = time.Hour
)

// Opts describes a histogram of seconds with these classic buckets.
func Opts(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: factor, NativeHistogramMaxBucketNumber: maxBuckets, NativeHistogramMinResetDuration: minReset,
	}
}
