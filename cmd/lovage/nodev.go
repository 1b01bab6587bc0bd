//go:build nodev

package main

// local is empty in the image, where there is no server to run.
type local struct{}
