package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/lovage-mq/lovage/pkg/client"
)

type batchCmd struct {
	File  string `arg:"" default:"-" type:"path" help:"File with the envelopes, one a line: {\"task\": …, \"kwargs\": …, \"options\": …}. Standard input without it."`
	Quiet bool   `short:"q" help:"Print only what was refused."`
}

// Run submits what the file has, however much it is, and prints the answers as
// they come.
func (c *batchCmd) Run(ctx context.Context, a *app) error {
	lines := a.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return wrong("%w", err)
		}
		lines = f // the client closes it
	}
	accepted, refused := 0, 0
	for answer, err := range a.client.SubmitLines(ctx, lines) {
		if err != nil {
			a.say("%d accepted, %d refused, and then the answers ended; what has an options.task_id can be sent again safely", accepted, refused)
			return err
		}
		if answer.Problem == nil {
			accepted++
		} else {
			refused++
		}
		if c.Quiet && answer.Problem == nil {
			continue
		}
		if err := a.answer(&answer); err != nil {
			return err
		}
	}
	a.say("%d accepted, %d refused", accepted, refused)
	if refused > 0 {
		return &outcome{code: exitFailure}
	}
	return nil
}

func (a *app) answer(answer *client.BatchAnswer) error {
	if a.Output == outputJSON {
		return json.NewEncoder(a.out).Encode(answer)
	}
	text := answer.TaskID
	if answer.Problem != nil {
		text = printable(answer.Problem.Error())
	}
	_, err := fmt.Fprintf(a.out, "%d\t%s\n", answer.Index, text)
	return err
}
