package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

type catalogCmd struct {
	Name string `arg:"" optional:"" complete:"tasks" help:"Show this task with the schema of its input."`
}

// Run lists the catalog, or shows a task of it.
func (c *catalogCmd) Run(ctx context.Context, a *app) error {
	catalog, err := ask(ctx, a, a.client.Catalog)
	if err != nil {
		return err
	}
	if c.Name == "" {
		return a.print(catalog, func(w io.Writer) error {
			var rows [][]string
			for _, e := range catalog {
				line, _, _ := strings.Cut(e.Description, "\n")
				rows = append(rows, []string{e.Name, e.Queue, strconv.Itoa(e.Alive), short(strings.Join(e.Params, " "), 40), dash(short(line, 60))})
			}
			return table(w, []string{"TASK", "QUEUE", "WORKERS", "FIELDS", "WHAT IT DOES"}, rows)
		})
	}
	for _, e := range catalog {
		if e.Name == c.Name {
			return a.print(e, func(w io.Writer) error { return showEntry(w, &e) })
		}
	}
	return &outcome{exitGateway, fmt.Sprintf("no worker has announced a task %q: see lovage catalog", c.Name)}
}

func showEntry(w io.Writer, e *client.CatalogEntry) error {
	return fields(w, "task", e.Name, "queue", e.Queue, "workers", strconv.Itoa(e.Alive), "what it does", e.Description,
		"max retries", strconv.Itoa(e.MaxRetries), "time limit", limit(e.TimeLimit), "soft time limit", limit(e.SoftTimeLimit),
		"indexed", strings.Join(e.Indexed, " "), "announced", moment(e.AnnouncedAt), "input", indented(e.Input), "result", indented(e.Output))
}

func limit(seconds float64) string {
	if seconds == 0 {
		return ""
	}
	return time.Duration(seconds * float64(time.Second)).String()
}

func indented(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(compact(raw)), "\t", "  ") != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}
