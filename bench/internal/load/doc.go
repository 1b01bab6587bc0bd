// Package load makes the load: as cheaply as it can, because it shares the
// machine with what it measures, and in the same way for whatever it measures.
package load
