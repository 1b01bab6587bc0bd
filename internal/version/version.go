// Package version knows the version of the running program.
package version

import (
	"runtime/debug"
	"strings"
)

// What the linker was told, by a release and by make build: nothing where somebody
// else builds the module.
//
//nolint:gochecknoglobals // the linker sets variables only
var (
	release string
	commit  string
)

// String returns the version of the release, or that of the module where it is
// built as somebody's dependency, with the commit behind it where that is known:
// "0.1.0+1d2f6229c1a7". Without either it is "devel".
func String() string {
	v, c := release, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = strings.Trim(info.Main.Version, "()")
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && c == "" && release == "" && !strings.Contains(v, "-") {
				c = s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	if v == "" {
		v = "devel"
	}
	if c != "" && !strings.Contains(v, "+") {
		v += "+" + c
	}
	return v
}
