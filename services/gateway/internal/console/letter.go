package console

import (
	"context"
	"net/http"
	"net/url"

	"github.com/lovage-mq/lovage/pkg/client"
)

// letter shows a dead letter and its input, to be edited and sent again.
func (c *Console) letter(ctx context.Context, r *http.Request) (*view, error) {
	v, s, err := c.readLetter(ctx, r)
	if err == nil {
		s.prefill(r.URL.Query().Get("as") == "json")
		v.Data = *s
	}
	return v, err
}

// readLetter reads the dead letter itself: it is there for longer than the record
// of its task.
func (c *Console) readLetter(ctx context.Context, r *http.Request) (*view, *submission, error) {
	queue, id := r.PathValue("queue"), r.PathValue("id")
	v := &view{name: "submit", Title: "Dead letter", Section: "dead"}
	l, err := c.client.DeadLetter(ctx, queue, id)
	if err != nil {
		return v, nil, err
	}
	t := &client.Task{TaskID: l.TaskID, Name: l.Name, Queue: queue, State: client.Failure, Args: l.Args, Kwargs: l.Kwargs}
	s, err := c.repetition(ctx, t, deadPath(queue)+"/letters/"+url.PathEscape(id))
	if err == nil {
		s.Letter = l
	}
	return v, s, err
}

// sendLetter sends it again with the input that was entered.
func (c *Console) sendLetter(ctx context.Context, r *http.Request) (*view, error) {
	v, s, err := c.readLetter(ctx, r)
	if err != nil {
		return v, err
	}
	if err := r.ParseForm(); err != nil {
		return v, badForm("The form is too large or was not read.")
	}
	input, err := s.input(r.PostForm)
	if err == nil {
		err = c.client.RedriveOne(ctx, s.Again.Queue, s.Again.TaskID, input)
	}
	if err != nil {
		return s.refuse(v, err)
	}
	return back(taskPath(s.Again.TaskID), "again"), nil
}
