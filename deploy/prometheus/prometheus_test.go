// Package prometheus_test keeps the alert rules true: they are valid, they fire
// when they should, and each has its entry in docs/operations.md.
package prometheus_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

// rules is a file of rules.
type rules struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Expr        string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func alerts(t *testing.T) rules {
	t.Helper()
	var r rules
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "alerts.yml")), &r))
	require.Len(t, r.Groups, 1)
	require.NotEmpty(t, r.Groups[0].Rules)
	return r
}

func TestPromtoolIsContent(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "rules", "alerts.yml"},
		{"check", "config", "prometheus.yml"},
		{"test", "rules", "alerts_test.yml"},
	} {
		out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
		require.NoError(t, err, "promtool %s (of Debian's package prometheus): %s", strings.Join(args, " "), out)
	}
}

func TestEveryAlertIsTriedAndHasCauseAndCure(t *testing.T) {
	t.Parallel()
	const page = "https://github.com/lovage-mq/lovage/blob/main/docs/operations.md#"
	tried, runbook := read(t, "alerts_test.yml"), read(t, "../../docs/operations.md")
	for _, a := range alerts(t).Groups[0].Rules {
		require.Contains(t, tried, `{alertname="`+a.Alert+`"}`, "no test lets it fire")
		require.Contains(t, []string{"critical", "warning", "info"}, a.Labels["severity"], a.Alert)
		require.NotEmpty(t, a.Annotations["summary"], a.Alert)
		require.NotEmpty(t, a.Annotations["description"], a.Alert)
		require.Equal(t, page+strings.ToLower(a.Alert), a.Annotations["runbook_url"])
		_, entry, found := strings.Cut(runbook, "\n### "+a.Alert+"\n")
		require.True(t, found, "docs/operations.md has no %s", a.Alert)
		entry, _, _ = strings.Cut(entry, "\n#")
		require.Contains(t, entry, "**Cause.**", a.Alert)
		require.Contains(t, entry, "**Cure.**", a.Alert)
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (Lovage\w+)$`).FindAllStringSubmatch(runbook, -1) {
		require.Contains(t, read(t, "alerts.yml"), "alert: "+heading[1]+"\n", "docs/operations.md has an alert that does not exist")
	}
}

// The outcomes that a rule names are problems that the API knows.
func TestOutcomesInRulesExist(t *testing.T) {
	t.Parallel()
	problems := read(t, "../../docs/api.md")
	for _, a := range alerts(t).Groups[0].Rules {
		for _, found := range regexp.MustCompile(`lovage_submissions_total\{outcome=~?"([^"]+)"`).FindAllStringSubmatch(a.Expr, -1) {
			for outcome := range strings.SplitSeq(found[1], "|") {
				require.True(t, outcome == "accepted" || strings.Contains(problems, "`"+outcome+"`"), "%s: there is no outcome %s", a.Alert, outcome)
			}
		}
	}
}

func TestKubernetesHasTheSameRules(t *testing.T) {
	t.Parallel()
	var k struct{ Spec any }
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "../k8s/overlays/production/alerts.yaml")), &k))
	var want any
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "alerts.yml")), &want))
	require.Equal(t, want, k.Spec)
}
