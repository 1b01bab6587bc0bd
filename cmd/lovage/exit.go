package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/lovage-mq/lovage/pkg/client"
)

// The exit codes, which docs/cli.md lists.
const (
	exitSuccess     = 0
	exitFailure     = 1   // the task has failed, or some of many things have
	exitUsage       = 2   // the command line, its input or its configuration is wrong
	exitRevoked     = 3   // the task, or the operation, was cancelled
	exitGateway     = 4   // the gateway cannot be reached, or has refused
	exitUnfinished  = 5   // what was waited for has not ended in time
	exitInterrupted = 130 // by Ctrl-C, as shells say it
)

// outcome is an error with an exit code of its own.
type outcome struct {
	code int
	text string // nothing is printed when it is empty
}

func (o *outcome) Error() string { return o.text }

// usageError is a mistake of whoever typed the command.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func wrong(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// fail says what went wrong, if anything has, and returns the exit code.
func (a *app) fail(err error) int {
	if err == nil {
		return exitSuccess
	}
	if o, ok := errors.AsType[*outcome](err); ok {
		if o.text != "" {
			a.say("%s", o.text)
		}
		return o.code
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		a.say("%v", err)
		return exitUsage
	}
	if p, ok := errors.AsType[*client.Problem](err); ok {
		a.refused(p)
		return exitGateway
	}
	switch {
	case errors.Is(err, context.Canceled):
		a.say("interrupted")
		return exitInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		a.say("%s has not answered within %v: see lovage doctor", a.client.BaseURL, a.Timeout)
	default:
		a.say("%v: see lovage doctor", err)
	}
	return exitGateway
}

// refused prints a problem, to programs as the gateway wrote it.
func (a *app) refused(p *client.Problem) {
	if a.Output == outputJSON {
		text, _ := json.Marshal(p) // of texts, numbers and lists of them
		_, _ = fmt.Fprintf(a.err, "%s\n", text)
		return
	}
	text := p.Error()
	if len(p.Nearest) > 0 {
		text += "\nDid you mean " + strings.Join(p.Nearest, ", ") + "?"
	}
	switch {
	case p.Retryable && p.RetryAfter > 0:
		text += fmt.Sprintf("\nIt may succeed later: try again in %v.", p.RetryAfter)
	case p.Retryable:
		text += "\nIt may succeed later."
	}
	if p.TaskID != "" && p.Slug() == "publish-unconfirmed" {
		text += fmt.Sprintf("\nThe task may run. To try again safely, submit it with --id %s.", p.TaskID)
	}
	if p.Slug() == "unauthorized" {
		text += "\nThe key is taken from the profile, LOVAGE_API_KEY or the file that LOVAGE_API_KEY_FILE names."
	}
	a.say("%s", text)
}

// say writes to people, beside what was asked for.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, "lovage: %s\n", printableLines(fmt.Sprintf(format, args...)))
}

// ended turns a task that has ended into an exit code.
func ended(t *client.Task) error {
	if t.State == client.Success {
		return nil
	}
	text := fmt.Sprintf("task %s is %s", t.TaskID, t.State)
	if t.Error != nil {
		text += ": " + t.Error.Type + ": " + t.Error.Message
	}
	if t.State == client.Revoked {
		return &outcome{exitRevoked, text}
	}
	return &outcome{exitFailure, text}
}
