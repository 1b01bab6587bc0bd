package e2e_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

// What the rules and the dashboard ask for is what the programs export: the
// metrics, and their labels.
func TestRulesAndDashboardAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	s, w := busyStack(t)
	there := map[string]*dto.MetricFamily{}
	for _, families := range s.exported(w) {
		maps.Copy(there, families)
	}
	asked := map[string]string{}
	for name, expr := range ruleExpressions(t) {
		asked["alert "+name] = expr
	}
	for name, expr := range panelExpressions(t) {
		asked["panel "+name] = expr
	}
	require.Greater(t, len(asked), 50)
	for who, expr := range asked {
		require.NoError(t, missing(there, expr), who)
	}
	// A check that finds nothing would be of no use.
	for _, wrong := range []string{
		"lovage_no_such_metric", "rate(lovage_publish_total_bucket[5m])", `lovage_redis_up{task="x"}`,
		"sum by (task) (lovage_redis_up)", "histogram_quantile(0.9, lovage_task_run_seconds)",
	} {
		require.Error(t, missing(there, wrong), wrong)
	}
}

// Grafana's expressions are valid once its variables have values.
func TestDashboardIsValidPromQL(t *testing.T) {
	t.Parallel()
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var list []rule
	for _, expr := range panelExpressions(t) {
		list = append(list, rule{"checked", strings.NewReplacer("$__rate_interval", "1m", "$task", ".*").Replace(expr)})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": list}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", "--lint=none", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// ruleExpressions are those of the alerts, by name.
func ruleExpressions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	found := map[string]string{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			found[r.Alert] = r.Expr
		}
	}
	return found
}

// panelExpressions are those of the dashboard, by panel and reference.
func panelExpressions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/lovage.json")
	require.NoError(t, err)
	var board struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ RefID, Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &board))
	found := map[string]string{}
	for _, p := range board.Panels {
		require.True(t, p.Type == "row" || len(p.Targets) > 0, "panel %s shows nothing", p.Title)
		for _, target := range p.Targets {
			found[p.Title+" "+target.RefID] = target.Expr
		}
	}
	for _, v := range board.Templating.List {
		if query, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			metric, label, _ := strings.Cut(strings.TrimSuffix(query, ")"), ", ")
			found["variable "+v.Name] = "sum by (" + label + ") (" + metric + ")"
		}
	}
	return found
}

// missing is what an expression asks for that is not there.
func missing(there map[string]*dto.MetricFamily, expr string) error {
	selector := regexp.MustCompile(`\b((?:lovage|process|go)_\w+)(?:\{([^}]*)\})?`)
	known := []string{"le", "job", "instance"}
	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		f := family(there, found[1])
		if f == nil {
			return &askedError{found[1], expr}
		}
		has := append(labels(f), "job", "instance")
		known = append(known, has...)
		for _, matcher := range regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`).FindAllStringSubmatch(found[2], -1) {
			if !slices.Contains(has, matcher[1]) {
				return &askedError{"label " + matcher[1], expr}
			}
		}
	}
	for _, by := range regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`).FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(by[1], ", ") {
			if !slices.Contains(known, label) {
				return &askedError{"label " + label, expr}
			}
		}
	}
	return nil
}

// family is the metric that has a series of this name: a histogram has none of its
// own.
func family(there map[string]*dto.MetricFamily, series string) *dto.MetricFamily {
	if f := there[series]; f != nil && f.GetType() != dto.MetricType_HISTOGRAM {
		return f
	}
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		name, cut := strings.CutSuffix(series, suffix)
		if f := there[name]; cut && f != nil && f.GetType() == dto.MetricType_HISTOGRAM {
			return f
		}
	}
	return nil
}

type askedError struct{ what, expr string }

func (e *askedError) Error() string {
	return "there is no " + e.what + ", which is asked for by " + e.expr
}
