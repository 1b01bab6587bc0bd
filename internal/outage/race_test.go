//go:build outage && race

package outage_test

// timed says whether times are asserted: the race detector slows the clients
// down so much that they would measure themselves.
const timed = false
