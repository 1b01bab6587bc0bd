//go:build outage && !race

package outage_test

// timed says whether times are asserted.
const timed = true
