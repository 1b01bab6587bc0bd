package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

type runCommand struct {
	Once bool `env:"LOVAGE_RUN_ONCE" help:"End after the first task."`
}

// Run starts the stack, has a first task done and serves until ctx ends. It
// leaves nothing running.
func (c runCommand) Run(ctx context.Context, s *stack) (err error) {
	defer func() {
		s.print("")
		ending := context.WithoutCancel(ctx)
		err = errors.Join(err, s.locked(ending, func(st *state) error { return s.down(ending, st) }))
	}()
	var st *state
	err = s.locked(ctx, func(loaded *state) error {
		st = loaded
		return s.up(ctx, st)
	})
	if err == nil {
		err = s.firstTask(ctx, st.url())
	}
	if err == nil && !c.Once {
		s.print("\nServing until Ctrl-C. The logs:")
		err = s.follow(ctx, st)
	}
	if ctx.Err() != nil {
		return nil // It was told to end.
	}
	return err
}

// task is what the gateway answers.
type task struct {
	ID       string          `json:"task_id"`
	State    string          `json:"state"`
	Progress *progress       `json:"progress"`
	Result   json.RawMessage `json:"result"`
	Error    json.RawMessage `json:"error"`
}

type progress struct {
	Current, Total, Percent float64
}

// firstTask submits a task over HTTP as any client would, and shows what comes.
func (s *stack) firstTask(ctx context.Context, url string) error {
	const input = `{"duration":3}`
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the first task did not end within a minute"))
	defer cancel()
	s.print("\nA first task:\n\n  curl -X POST %s/v1/tasks/sleep_task -H 'Content-Type: application/json' -d '%s'", url, input)
	submitted, answer, err := request(ctx, http.MethodPost, url+"/v1/tasks/sleep_task", input, http.StatusAccepted)
	if err != nil {
		return fmt.Errorf("submit the first task: %w", err)
	}
	s.print("  202 %s\n\n  curl %s/v1/tasks/%s", answer, url, submitted.ID)
	for shown := ""; ; {
		now, _, err := request(ctx, http.MethodGet, url+"/v1/tasks/"+submitted.ID, "", http.StatusOK)
		if err != nil {
			return fmt.Errorf("read the first task: %w", err)
		}
		if line := now.line(); line != shown {
			s.print("  %s", line)
			shown = line
		}
		if now.State == "SUCCESS" {
			return nil
		}
		if now.State == "FAILURE" || now.State == "REVOKED" {
			return errors.New("the first task did not succeed")
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// line shows a task in one line.
func (t task) line() string {
	out := t.State
	if t.Progress != nil {
		out += fmt.Sprintf("  %3.0f %%  (%g of %g)", t.Progress.Percent, t.Progress.Current, t.Progress.Total)
	}
	if s := string(t.Result); s != "" && s != "null" {
		out += "  result: " + s
	}
	if s := string(t.Error); s != "" && s != "null" {
		out += "  error: " + s
	}
	return out
}

// request makes one call of the API, and returns the answer also as one line.
func request(ctx context.Context, method, url, body string, want int) (task, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return task{}, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := plainClient().Do(req)
	if err != nil {
		return task{}, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return task{}, "", err
	}
	if resp.StatusCode != want {
		return task{}, "", fmt.Errorf("%s: %s", resp.Status, text)
	}
	var t task
	var line bytes.Buffer
	if err := errors.Join(json.Unmarshal(text, &t), json.Compact(&line, text)); err != nil {
		return task{}, "", fmt.Errorf("read answer: %w", err)
	}
	return t, line.String(), nil
}

// follow prints what the services log, until ctx ends or one of them does.
func (s *stack) follow(ctx context.Context, st *state) error {
	if st.Docker {
		return s.compose(ctx, st, "logs", "--follow", "--tail", "0", "gateway", "worker")
	}
	logs := make([]*log, 0, len(s.services))
	for _, v := range s.services {
		l, err := openLog(v.name, s.run("log", v.name+".log"))
		if err != nil {
			return err
		}
		defer func() { _ = l.file.Close() }()
		logs = append(logs, l)
	}
	for {
		for _, l := range logs {
			l.copy(s.print)
		}
		for _, v := range s.services {
			if _, running := st.process(v.name); !running {
				return fmt.Errorf("%s has ended, see %s", v.name, s.run("log", v.name+".log"))
			}
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// log is a log file that grows.
type log struct {
	name string
	file *os.File
	rest []byte // the beginning of a line whose end is not written yet
}

// openLog opens a log at its end.
func openLog(name, path string) (*log, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("follow log: %w", err)
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return nil, fmt.Errorf("follow log: %w", err)
	}
	return &log{name: name, file: f}, nil
}

// copy prints the lines that are new.
func (l *log) copy(show func(string, ...any)) {
	text, _ := io.ReadAll(l.file) // What cannot be read now is read the next time.
	l.rest = append(l.rest, text...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return
		}
		l.rest = rest
		show("%-8s| %s", l.name, line)
	}
}
