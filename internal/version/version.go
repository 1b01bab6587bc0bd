// Package version knows the version of the running program.
package version

import "runtime/debug"

// String returns the version of the module, "unknown" when the build does not
// say.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
