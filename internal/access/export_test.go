package access

// XAdd is how an entry is written.
var XAdd = xadd //nolint:gochecknoglobals // for the tests outside
