package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lovage-mq/lovage/pkg/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newApp is an app whose gateway answers every path with a text.
func newApp(t *testing.T, answers map[string]string) *app {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return &app{
		globals: globals{Timeout: time.Minute}, in: strings.NewReader(""), out: new(bytes.Buffer), err: new(bytes.Buffer),
		client: &client.Client{BaseURL: s.URL, HTTPClient: s.Client()},
	}
}

func printed(a *app) string { return a.out.(*bytes.Buffer).String() }

const catalog = `{"tasks":[
	{"name":"greet","queue":"q","input_schema":{"properties":{"name":{"type":"string"},"nick":{"type":["string","null"]},"times":{"type":"integer"}}}},
	{"name":"evil\u001b[31m","queue":"q","description":"tab\there"}]}`

func TestAFieldIsTextWhereTheTaskSaysSo(t *testing.T) {
	t.Parallel()
	a := newApp(t, map[string]string{"/v1/catalog": catalog})
	for _, c := range []struct{ task, pairs, want string }{
		{"greet", "name=12 nick=null times=3", `{"name":"12","nick":"null","times":3}`},
		{"greet", "name=Ada other=[1]", `{"name":"Ada","other":[1]}`},
		{"unknown", `name=12 a={"b":"c=d"} x=`, `{"name":12,"a":{"b":"c=d"},"x":""}`},
	} {
		got, err := a.fieldsOf(t.Context(), c.task, strings.Fields(c.pairs))
		require.NoError(t, err)
		require.JSONEq(t, c.want, string(got))
	}
	for _, pairs := range []string{"name", "=1", "a=1 a=2"} {
		_, err := a.fieldsOf(t.Context(), "greet", strings.Fields(pairs))
		require.Equal(t, exitUsage, a.fail(err), pairs)
	}
}

func TestAnInputComesFromTheLineAFileOrStandardInput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "in.json")
	require.NoError(t, os.WriteFile(file, []byte(" [1] \n"), 0o600))
	a := &app{in: strings.NewReader(`{"b":2}`)}
	for option, want := range map[string]string{`{"a":1}`: `{"a":1}`, "@" + file: `[1]`, "-": `{"b":2}`} {
		got, err := a.readJSON("--input", option)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for _, option := range []string{"{", "@" + file + "x", ""} {
		_, err := a.readJSON("--input", option)
		var usage *usageError
		require.ErrorAs(t, err, &usage, option)
	}
}

//nolint:paralleltest // it sets the environment
func TestTheGatewayIsTheOneThatIsNamedNearest(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	connect := func(g globals, env map[string]string) (string, string, error) {
		c, err := (&app{globals: g}).connect(func(name string) string { return env[name] })
		if err != nil {
			return "", "", err
		}
		return c.BaseURL, c.Token, nil
	}
	expect := func(g globals, env map[string]string, address, token string) {
		gotAddress, gotToken, err := connect(g, env)
		require.NoError(t, err)
		require.Equal(t, address+" "+token, gotAddress+" "+gotToken)
	}
	none := map[string]string{}
	expect(globals{}, none, defaultGateway, "")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lovage"), 0o700))
	file := filepath.Join(dir, "lovage", "config.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"default":"a","profiles":{"a":{"gateway":"http://a"},"b":{"gateway":"https://b/x","api_key":"tb"}}}`), 0o600))
	env := map[string]string{"LOVAGE_GATEWAY": "http://env", "LOVAGE_API_KEY": " te\n", "LOVAGE_PROFILE": "b"}
	expect(globals{}, none, "http://a", "")
	expect(globals{}, map[string]string{"LOVAGE_PROFILE": "b"}, "https://b/x", "tb")
	expect(globals{}, env, "http://env", "te")
	expect(globals{Profile: "a"}, env, "http://a", "")
	expect(globals{Gateway: "http://flag"}, env, "http://flag", "te")

	for _, g := range []globals{{Profile: "c"}, {Gateway: "localhost:8080"}, {Gateway: "ftp://x"}} {
		_, _, err := connect(g, none)
		var usage *usageError
		require.ErrorAs(t, err, &usage, g)
	}
	require.NoError(t, os.WriteFile(file, []byte(`{"profils":{}}`), 0o600))
	_, _, err := connect(globals{}, none)
	require.ErrorContains(t, err, "profils")
}

func TestATimeIsAlsoADuration(t *testing.T) {
	t.Parallel()
	var f future
	var p past
	require.NoError(t, f.UnmarshalText([]byte("1h")))
	require.NoError(t, p.UnmarshalText([]byte("1h")))
	require.WithinDuration(t, time.Now().Add(time.Hour), f.Time, time.Minute)
	require.WithinDuration(t, time.Now().Add(-time.Hour), p.Time, time.Minute)
	require.NoError(t, f.UnmarshalText([]byte("2030-01-02T03:04:05Z")))
	require.Equal(t, 2030, f.Year())
	require.Error(t, f.UnmarshalText([]byte("tomorrow")))
}

func TestWhatTasksSayDoesNothingToATerminal(t *testing.T) {
	t.Parallel()
	a := newApp(t, map[string]string{"/v1/catalog": catalog})
	require.NoError(t, (&catalogCmd{}).Run(t.Context(), a))
	require.NotContains(t, printed(a), "\033")
	require.Contains(t, printed(a), "tab here")
	require.Equal(t, "a b\nc d", printableLines("a\x1bb\nc\x07d"))
}

func TestPagesStopAtTheLimitAndAtTheEnd(t *testing.T) {
	t.Parallel()
	var asked []int
	page := func(limit int, cursor string) ([]int, string, error) {
		asked = append(asked, limit)
		if cursor == "3" {
			return []int{1}, "", nil
		}
		return make([]int, min(limit, 150)), fmt.Sprint(len(asked)), nil // short, and not the last
	}
	all, err := pages(0, page)
	require.NoError(t, err)
	require.Len(t, all, 451)
	require.Equal(t, []int{200, 200, 200, 200}, asked)
	asked = nil
	all, err = pages(160, page)
	require.NoError(t, err)
	require.Len(t, all, 160)
	require.Equal(t, []int{160, 10}, asked)
}

func TestTheDoctorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	a := newApp(t, map[string]string{
		"/readyz":     `{"status":"ok","rabbitmq":"blocked","redis":"up","catalog":"loaded","tasks":1}`,
		"/v1/workers": `{"workers":[]}`,
		"/v1/queues":  `{"queues":[{"name":"a","state":"draining","alive":1},{"name":"b","state":"running","alive":0},{"name":"c","state":"running","foreign":true}]}`,
	})
	require.Equal(t, exitFailure, a.fail((&doctorCmd{}).Run(t.Context(), a)))
	for _, text := range []string{"rabbitmqctl status", "start a worker", "lovage queues resume a", "start a worker of it"} {
		require.Contains(t, printed(a), text)
	}
	require.NotContains(t, printed(a), "queue c")

	a = newApp(t, nil)
	a.Output = outputJSON
	require.Equal(t, exitGateway, a.fail((&doctorCmd{}).Run(t.Context(), a)))
	var checks []check
	require.NoError(t, json.Unmarshal([]byte(printed(a)), &checks))
	require.Equal(t, ill, checks[0].Finding)
	require.Contains(t, checks[0].Todo, "no gateway")
}

func TestTheClockIsComparedAsFarAsSecondsAllow(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 900_000_000, time.UTC)
	at := func(d time.Duration) check {
		return clock(now.Add(d).Truncate(time.Second), now, now.Add(50*time.Millisecond))
	}
	require.Equal(t, well, at(0).Finding)
	require.Equal(t, well, at(-2*time.Second).Finding)
	require.Contains(t, at(10*time.Second).Detail, "ahead")
	require.Contains(t, at(-10*time.Second).Detail, "behind")
	require.Equal(t, warned, clock(time.Time{}, now, now).Finding)
}

func newParser(t *testing.T) *kong.Kong {
	t.Helper()
	parser, err := newParserOf(t, new(commands), new(app))
	require.NoError(t, err)
	return parser
}

func newParserOf(t *testing.T, c *commands, a *app) (*kong.Kong, error) {
	t.Helper()
	return kong.New(c, kong.Vars{"version": "", "default_gateway": ""}, kong.Bind(a), kong.BindTo(t.Context(), (*context.Context)(nil)))
}

func TestEveryCommandIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	var documented, commands []string
	for _, row := range regexp.MustCompile("(?m)^\\| `lovage ([a-z ]+[a-z])").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, row[1])
	}
	for _, leaf := range newParser(t).Model.Leaves(true) {
		commands = append(commands, regexp.MustCompile(` ?[[<].*$`).ReplaceAllString(leaf.Path(), ""))
	}
	require.ElementsMatch(t, commands, documented)
	for _, code := range []int{exitSuccess, exitFailure, exitUsage, exitRevoked, exitGateway, exitUnfinished, exitInterrupted} {
		require.Contains(t, string(text), fmt.Sprintf("\n| %d | ", code))
	}
}

func TestWordsAreCompleted(t *testing.T) {
	t.Parallel()
	parser := newParser(t)
	for line, want := range map[string]string{
		"ca|":                             "[cancel catalog]",
		"comp|":                           "[completion]",
		"dead re|":                        "[redrive]",
		"-o table dead gr|":               "[groups]",
		"dead list |":                     "[QUEUES]",
		"dead list q |":                   "[]",
		"dead redrive --na|":              "[--name]",
		"dead redrive --name |":           "[TASKS]",
		"dead redrive --name=|":           "[--name=TASKS]",
		"dead redrive --name = |":         "[TASKS]",
		"list --state s|":                 "[]",
		"list -o |":                       "[json table]",
		"--profile p --gateway=g list -|": "[--error --gateway --help --input --limit --name --output --prefix --profile --queue --since --state --timeout --until --version --worker]",
	} {
		done := completer{node: parser.Model.Node, given: map[string]string{}, names: func(kind string) []string { return []string{strings.ToUpper(kind)} }}
		words := strings.Split(strings.TrimSuffix(line, "|"), " ")
		got := done.complete(words)
		require.Equal(t, want, fmt.Sprint(got), line)
		if done.given["profile"] != "" {
			require.Equal(t, map[string]string{"profile": "p", "gateway": "g"}, done.given)
		}
	}
}
