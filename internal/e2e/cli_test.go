package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

// said is what the command line has printed.
type said struct {
	code     int
	out, err string
}

// lovage runs the command line to its end.
func (s *stack) lovage(args ...string) said { return s.lovageOn("", args...) }

func (s *stack) lovageOn(input string, args ...string) said {
	s.t.Helper()
	cmd := s.command(args...)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &err
	run := cmd.Run()
	if exit := new(exec.ExitError); run != nil && !errors.As(run, &exit) {
		require.NoError(s.t, run)
	}
	return said{cmd.ProcessState.ExitCode(), out.String(), err.String()}
}

// command is a run of the command line without a configuration of its own.
func (s *stack) command(args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(binDir, "lovage"), args...)
	cmd.Env = append(os.Environ(), "LOVAGE_GATEWAY="+s.url, "XDG_CONFIG_HOME="+s.t.TempDir(), "TERM=xterm")
	cmd.Env = append(cmd.Env, s.lovageEnv...)
	return cmd
}

// told runs the command line, which succeeds, and decodes its JSON.
func (s *stack) told(into any, args ...string) {
	s.t.Helper()
	got := s.lovage(append(args, "-o", "json")...)
	require.Zero(s.t, got.code, "%+v", got)
	require.NoError(s.t, json.Unmarshal([]byte(got.out), into), got.out)
}

func TestTheCommandLineEndsAsItsTaskDoes(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	got := s.lovage("submit", "sleep_task", "-i", "duration=1", "--wait")
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, `"slept"`)
	require.Empty(t, got.err, "there is no terminal to show a progress on")

	got = s.lovageOn(`{"duration": 1}`, "submit", "sleep_task", "--input", "-", "--id", "mine")
	require.Equal(t, said{out: "mine\n"}, got)
	require.Zero(t, s.lovage("wait", "mine").code)
	got = s.lovage("get", "mine")
	require.Contains(t, got.out, "SUCCESS")
	var task client.Task
	s.told(&task, "get", "mine")
	require.Equal(t, client.Success, task.State)
	var tasks []client.Task
	s.told(&tasks, "list", "--state", "SUCCESS", "--name", "sleep_task")
	require.Len(t, tasks, 2)

	got = s.lovage("submit", "nobody.knows", "--queue", "default", "--wait")
	require.Equal(t, 1, got.code, "%+v", got)
	require.Contains(t, got.err, "FAILURE")

	got = s.lovage("submit", "sleep_task", "-i", "duration=1", "--countdown", "1h", "--publish-timeout", "20s", "--id", "later", "--wait", "--for", "1s")
	require.Equal(t, 5, got.code, "%+v", got)
	require.Contains(t, got.err, "lovage wait later")
	require.Contains(t, s.lovage("cancel", "later").out, "REVOKED")
	require.Equal(t, 3, s.lovage("wait", "later").code)
	require.Zero(t, s.lovage("retry", "later").code)
	require.Zero(t, s.lovage("wait", "later").code)

	for args, code := range map[string]int{
		"submit":                                2,
		"submit sleep_task --input {":           2,
		"submit sleep_task -i duration":         2,
		"list --since yesterday":                2,
		"get mine --profile none":               2,
		"get none":                              4,
		"submit sleep_task -i duration=0":       4,
		"submit sleep_tusk":                     4,
		"get mine --gateway http://127.0.0.1:1": 4,
	} {
		got := s.lovage(strings.Fields(args)...)
		require.Equal(t, code, got.code, "%s: %+v", args, got)
		require.NotEmpty(t, got.err, args)
	}
	require.Contains(t, s.lovage("submit", "sleep_tusk").err, "Did you mean sleep_task")
	var p client.Problem
	require.NoError(t, json.Unmarshal([]byte(s.lovage("submit", "sleep_task", "-o", "json").err), &p))
	require.Equal(t, "invalid-input", p.Slug())
}

func TestTheCommandLineShowsProgressOnATerminal(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	shown, code := s.terminal("", "", "submit", "sleep_task", "-i", "duration=4", "--wait")
	require.Zero(t, code, shown)
	require.Regexp(t, `sleep_task [1-3](\.\d+)?/4 +[2-9]\d% \|█+ +\|`, shown)
	_, result, cleared := strings.Cut(shown, "\033[2K\r")
	require.True(t, cleared, "%q", shown)
	require.Regexp(t, `^\{"slept":[0-9.]+\}\r\n$`, result)

	shown, code = s.terminal("/30", "\x03", "submit", "sleep_task", "-i", "duration=30", "--id", "long", "--wait")
	require.Equal(t, 130, code, shown)
	require.Contains(t, shown, "task long goes on: lovage wait long")
	require.Equal(t, "PROGRESS", s.task("long").State)
}

// terminal runs the command line on a terminal, and types when a text is shown.
func (s *stack) terminal(when, typed string, args ...string) (shown string, code int) {
	s.t.Helper()
	cmd := s.command(args...)
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 100})
	require.NoError(s.t, err)
	defer func() { require.NoError(s.t, screen.Close()) }()
	for buf := make([]byte, 4096); ; {
		n, err := screen.Read(buf)
		shown += string(buf[:n])
		if err != nil { // the program has ended
			break
		}
		if typed != "" && strings.Contains(shown, when) {
			_, err := io.WriteString(screen, typed)
			require.NoError(s.t, err)
			typed = ""
		}
	}
	if exit := new(exec.ExitError); !errors.As(cmd.Wait(), &exit) {
		return shown, 0
	}
	return shown, cmd.ProcessState.ExitCode()
}

func TestTheCommandLineSubmitsBatches(t *testing.T) {
	t.Parallel()
	const many = 2000
	s := newStack(t)
	s.worker()
	require.Zero(t, s.lovage("queues", "pause", "default").code)
	var lines strings.Builder
	for i := range many {
		fmt.Fprintf(&lines, `{"task": "sleep_task", "args": [1], "options": {"task_id": "b%d"}}`+"\n", i)
	}
	file := filepath.Join(t.TempDir(), "batch.ndjson")
	require.NoError(t, os.WriteFile(file, []byte(lines.String()), 0o600))
	got := s.lovage("batch", file)
	require.Zero(t, got.code, got.err)
	require.Equal(t, many, strings.Count(got.out, "\n"))
	require.True(t, strings.HasPrefix(got.out, "0\tb0\n1\tb1\n"), got.out[:20])
	require.Contains(t, got.err, "2000 accepted, 0 refused")

	got = s.lovageOn(`{"task": "sleep_task"}`+"\n{", "batch", "--quiet", "-o", "json")
	require.Equal(t, 1, got.code, got.err)
	require.Contains(t, got.err, "0 accepted, 2 refused")
	var answer client.BatchAnswer
	require.NoError(t, json.Unmarshal([]byte(strings.SplitN(got.out, "\n", 2)[0]), &answer))
	require.Equal(t, "invalid-input", answer.Problem.Slug())
}

func TestTheCommandLineSteersQueuesAndDeadLetters(t *testing.T) {
	t.Parallel()
	const many = 5
	s := newStack(t)
	s.worker()
	var got said
	s.eventually(func() bool {
		got = s.lovage("doctor")
		return got.code == 0 && !strings.Contains(got.out, "warning")
	}, "the doctor has nothing to say")
	require.Contains(t, s.lovage("queues", "pause", "default").out, "paused")
	got = s.lovage("doctor")
	require.Contains(t, got.out, "lovage queues resume default")
	require.Contains(t, s.lovage("queues", "resume", "default").out, "running")
	require.Contains(t, s.lovage("queues").out, "default")
	require.Contains(t, s.lovage("workers").out, "default")
	require.Contains(t, s.lovage("catalog").out, "sleep_task")
	require.Contains(t, s.lovage("catalog", "sleep_task").out, `"duration"`)

	for i := range many {
		s.stranger(fmt.Sprintf("s%d", i))
	}
	s.graves(many)
	var groups []client.DeadGroup
	s.told(&groups, "dead", "groups", "default")
	require.Len(t, groups, 1)
	require.Contains(t, s.lovage("dead", "list", "default", "-n", "2").out, "s1")
	require.Contains(t, s.lovage("dead", "show", "default", "s1").out, "unknown-task")
	require.Equal(t, 2, s.lovage("dead", "redrive", "default").code, "it does not mean all unless told so")
	require.Contains(t, s.lovage("dead", "redrive", "default", "--all", "--dry-run").out, "5 dead letters are meant")
	got = s.lovage("dead", "redrive", "default", "--group", groups[0].Group, "--rate", "50")
	require.Zero(t, got.code, "%+v", got)
	require.Contains(t, got.out, "redrive done: 5 sent again")
	s.graves(many)
	require.Contains(t, s.lovage("dead", "operations", "default").out, "5 sent again")
	require.Equal(t, 2, s.lovage("dead", "discard", "default", "--all").code, "nobody is there to be asked")
	require.Zero(t, s.lovage("dead", "discard", "default", "s0", "s1", "--yes").code)
	shown, code := s.terminal("[y/N]", "n\n", "dead", "discard", "default", "--all")
	require.Equal(t, 3, code, shown)
	require.Contains(t, shown, "Throw 3 dead letters of queue default away?")
	shown, code = s.terminal("[y/N]", "y\n", "dead", "discard", "default", "--all")
	require.Zero(t, code, shown)
	require.Contains(t, shown, "discard done: 3 discarded")
	require.Empty(t, s.lovage("dead", "list", "default", "-o", "json").err)
}

// The script of bash asks the program, and the program the gateway.
func TestTheCommandLineCompletesWordsInBash(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	for words, want := range map[string]string{
		"lovage sub":              "submit ",
		"lovage submit sleep":     "sleep_task ",
		"lovage queues pause d":   "default ",
		"lovage list -o j":        "json ",
		"lovage dead list --grou": "--group ",
	} {
		script := `eval "$(lovage completion bash)"; COMP_WORDS=(` + words + `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _lovage; printf '%s ' "${COMPREPLY[@]}"`
		cmd := s.command()
		cmd.Path, cmd.Args = "/bin/bash", []string{"bash", "-c", script}
		cmd.Env = append(cmd.Env, "PATH="+binDir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out), words)
	}
	require.Zero(t, s.lovage("completion", "zsh", "--profile", "none").code, "a shell must start whatever the configuration says")
}
