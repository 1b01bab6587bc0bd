//go:build outage

package outage_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// report is the table of all outages.
type report struct {
	rows       []string
	duplicates int
}

func head() string {
	return "| fault | known after | answers: max, p99 | refusals once known: p99 (/livez) | outcomes | 504 that ran | working again after another client | p99 of /livez, /readyz, /openapi.json, GET task; bystander | submit p99 before |\n" +
		"|---|---|---|---|---|---|---|---|---|\n"
}

func (r *report) add(v *verdict) {
	broken := v.broken()
	counts := tally(broken)
	var outcomes []string
	for _, o := range slices.Sorted(maps.Keys(counts)) {
		outcomes = append(outcomes, fmt.Sprintf("%d × %s", counts[o], o))
	}
	refusals := "-"
	if len(v.refusals) > 0 {
		refusals = fmt.Sprintf("%s (%s)", ms(p99(v.refusals)), ms(p99(v.livez)))
	}
	known := "-"
	if v.fault.away {
		known = ms(v.found)
	}
	ran := "-"
	if v.unconfirmed > 0 {
		ran = fmt.Sprintf("%d of %d", v.ranLen, v.unconfirmed)
	}
	read := ms(v.p99(readPath))
	if v.fault.noStore {
		read += " (Redis away)"
	}
	r.rows = append(r.rows, fmt.Sprintf("| %s | %s | %s, %s | %s | %s | %s | %s | %s, %s, %s, %s; %s | %s |\n",
		v.fault.name, known, ms(longest(broken)), ms(p99(broken)), refusals, strings.Join(outcomes, ", "), ran, ms(max(0, v.recovery)),
		ms(v.p99("/livez")), ms(v.p99("/readyz")), ms(v.p99("/openapi.json")), read, ms(v.p99(bystander)), ms(v.control["submit"])))
}

func (r *report) last() string { return head() + r.rows[len(r.rows)-1] }

// write prints the table, and leaves it in the file that LOVAGE_OUTAGE_TABLE
// names.
func (r *report) write(t *testing.T) {
	t.Helper()
	text := head() + strings.Join(r.rows, "") + fmt.Sprintf("\nDuplicates forced by swallowed confirms, each run once: %d.\n", r.duplicates)
	t.Log("\n" + text)
	if path := os.Getenv("LOVAGE_OUTAGE_TABLE"); path != "" {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
