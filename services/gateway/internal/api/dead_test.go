package api

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// bury makes a dead letter of queue "default".
func (s *server) bury(t *testing.T, id, name, text string, reason messages.Reason) {
	t.Helper()
	m, err := messages.Encode(&messages.Task{ID: id, Name: name, Kwargs: []byte(`{"duration":1}`), Queue: "default", Retries: 3})
	require.NoError(t, err)
	messages.EncodeDeadLetter(m, messages.DeadLetter{
		Reason: reason, Error: text, Stack: "stack of " + id, Queue: "default", Attempts: 4, Worker: "w",
		FirstTime: time.Now().Add(-2 * time.Hour), LastTime: time.Now().Add(-time.Hour + time.Duration(len(s.graves.letters))*time.Minute),
	})
	s.graves.letters = append(s.graves.letters, m)
}

// graveyard has six dead letters in three groups.
func graveyard(t *testing.T, change ...func(*Options)) *server {
	t.Helper()
	s := newServer(t, change...)
	for i := range 3 {
		s.bury(t, fmt.Sprintf("a%d", i), "sleep_task", fmt.Sprintf("Timeout: %d ms to \"host-%d\"", i, i), messages.ReasonRetriesExhausted)
	}
	for i := range 2 {
		s.bury(t, fmt.Sprintf("b%d", i), "sleep_task", "Panic: boom", messages.ReasonRetriesExhausted)
	}
	s.bury(t, "c0", "send_mail", "Panic: boom", messages.ReasonPermanent)
	return s
}

// newest is what was sent last.
func (s *server) newest(t *testing.T) published {
	t.Helper()
	require.NotEmpty(t, s.publisher.sent)
	return s.publisher.sent[len(s.publisher.sent)-1]
}

func (s *server) left() (ids []string) {
	s.graves.mu.Lock()
	defer s.graves.mu.Unlock()
	for _, m := range s.graves.letters {
		ids = append(ids, m.MessageID)
	}
	return ids
}

// dead lists and returns the ids and the cursor.
func (s *server) dead(t *testing.T, query string) (ids []string, next string) {
	t.Helper()
	w := s.ask(t, get, "/v1/queues/default/dead"+query, "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	v := decode(t, w)
	for _, l := range v["dead_letters"].([]any) {
		ids = append(ids, l.(map[string]any)["task_id"].(string))
	}
	next, _ = v["next_cursor"].(string)
	return ids, next
}

func TestDeadLettersAreListedInTheirOrder(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	all := []string{"a0", "a1", "a2", "b0", "b1", "c0"}
	ids, next := s.dead(t, "")
	require.Equal(t, all, ids)
	require.Empty(t, next)
	var paged []string
	for cursor := ""; ; {
		ids, next := s.dead(t, "?limit=2"+cursor)
		require.LessOrEqual(t, len(ids), 2)
		paged = append(paged, ids...)
		if next == "" {
			break
		}
		cursor = "&cursor=" + url.QueryEscape(next)
	}
	require.Equal(t, all, paged)
	for query, want := range map[string][]string{
		"?name=send_mail": {"c0"}, "?reason=permanent": {"c0"}, "?name=nobody": nil,
		"?until=" + url.QueryEscape(time.Now().Add(-2*time.Hour).Format(time.RFC3339)): nil,
	} {
		ids, _ := s.dead(t, query)
		require.Equal(t, want, ids, query)
	}
	require.Equal(t, all, s.left())
}

// A page begins where the one before has ended, also when letters in between
// were sent again.
func TestAPageOfDeadLettersSurvivesThatOthersGo(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	_, next := s.dead(t, "?limit=3") // up to a2
	s.graves.letters = s.graves.letters[1:]
	ids, _ := s.dead(t, "?cursor="+url.QueryEscape(next))
	require.Equal(t, []string{"b0", "b1", "c0"}, ids)
	s.graves.letters = append(s.graves.letters[:1:1], s.graves.letters[2:]...) // a2 itself
	ids, _ = s.dead(t, "?cursor="+url.QueryEscape(next))
	require.Subset(t, []string{"b0", "b1", "c0"}, ids)
}

func TestDeadLettersAreGroupedByWhatDiffersOnlyInNumbers(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	w := s.ask(t, get, "/v1/queues/default/dead-groups", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	groups := decode(t, w)["groups"].([]any)
	require.Len(t, groups, 3)
	first := groups[0].(map[string]any)
	require.Equal(t, "3", fmt.Sprint(first["count"]))
	require.Equal(t, "a2", first["example"])
	ids, _ := s.dead(t, "?group="+first["group"].(string))
	require.Equal(t, []string{"a0", "a1", "a2"}, ids)
}

func TestADeadLetterShowsItsInput(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	w := s.ask(t, get, "/v1/queues/default/dead/b1", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	v := decode(t, w)
	require.Equal(t, "b1", v["task_id"])
	require.Equal(t, "stack of b1", v["stack"])
	require.Equal(t, "1", fmt.Sprint(v["kwargs"].(map[string]any)["duration"]))
	requireProblem(t, s.ask(t, get, "/v1/queues/default/dead/nobody", ""), http.StatusNotFound, slugNoDeadLetter)
}

func TestOneDeadLetterIsSentAgain(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	w := s.ask(t, post, "/v1/queues/default/dead/b0/redrive", "")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	sent := s.newest(t).task
	require.Equal(t, messages.Attempt{ID: "b0", Run: 1}, sent.Attempt())
	require.JSONEq(t, `{"duration":1}`, string(sent.Kwargs))
	require.Equal(t, messages.Pending, s.store.records["b0"].State)
	require.Equal(t, []string{"a0", "a1", "a2", "b1", "c0"}, s.left())

	w = s.ask(t, post, "/v1/queues/default/dead/b1/redrive", `{"duration":2}`)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.JSONEq(t, `{"duration":2}`, string(s.newest(t).task.Kwargs))
	requireProblem(t, s.ask(t, post, "/v1/queues/default/dead/b1/redrive", ""), http.StatusNotFound, slugNoDeadLetter)
	requireProblem(t, s.ask(t, post, "/v1/queues/default/dead/c0/redrive", `[1]`), http.StatusUnprocessableEntity, slugInput)
}

// Whatever has become of the task since, a run that has ended never runs again.
func TestADeadLetterThatWasSentAgainBeforeIsRemoved(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	s.store.put(&messages.Result{TaskID: "c0", State: messages.Success, Run: 1})
	requireProblem(t, s.ask(t, post, "/v1/queues/default/dead/c0/redrive", ""), http.StatusConflict, slugEnded)
	require.NotContains(t, s.left(), "c0")
	s.store.put(&messages.Result{TaskID: "b0", State: messages.Started})
	requireProblem(t, s.ask(t, post, "/v1/queues/default/dead/b0/redrive", ""), http.StatusConflict, slugNotEnded)
	require.Contains(t, s.left(), "b0")
	require.Empty(t, s.publisher.sent)
}

func TestManyDeadLettersAreSentAgainOrDiscarded(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	bulk := func(verb, query string) map[string]any {
		w := s.ask(t, post, "/v1/queues/default/"+verb+query, "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		return decode(t, w)
	}
	number := func(v any) string { return fmt.Sprint(v) }

	v := bulk("redrive", "?reason=retries-exhausted&dry_run=true")
	require.Equal(t, "5", number(v["matched"]))
	require.Equal(t, "0", number(v["redriven"]))
	require.Len(t, s.left(), 6)

	v = bulk("redrive", "?reason=retries-exhausted&limit=2")
	require.Equal(t, "2", number(v["redriven"]))
	require.Equal(t, true, v["more"])
	require.Equal(t, []string{"a2", "b0", "b1", "c0"}, s.left())

	v = bulk("discard", "?name=sleep_task")
	require.Equal(t, "3", number(v["discarded"]))
	require.Equal(t, false, v["more"])
	require.Equal(t, []string{"c0"}, s.left())

	p := requireProblem(t, s.ask(t, post, "/v1/queues/default/redrive", ""), http.StatusUnprocessableEntity, slugParameters)
	require.Equal(t, []string{"?all"}, pointers(p))
	v = bulk("redrive", "?all=true")
	require.Equal(t, "1", number(v["redriven"]))
	require.Empty(t, s.left())
}

func TestOneDeadLetterIsDiscarded(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	w := s.ask(t, http.MethodDelete, "/v1/queues/default/dead/c0", "")
	require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
	require.NotContains(t, s.left(), "c0")
	requireProblem(t, s.ask(t, http.MethodDelete, "/v1/queues/default/dead/c0", ""), http.StatusNotFound, slugNoDeadLetter)
}

func TestADeadLetterStaysWhenItCannotBeSentAgain(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	s.publisher.err = messages.ErrUnconfirmed
	requireProblem(t, s.ask(t, post, "/v1/queues/default/redrive?all=true", ""), http.StatusGatewayTimeout, slugUnconfirmed)
	require.Len(t, s.left(), 6)
	s.publisher.err = nil
	s.store.err = messages.ErrStoreUnavailable
	requireProblem(t, s.ask(t, post, "/v1/queues/default/redrive?all=true", ""), http.StatusServiceUnavailable, "store-unavailable")
	s.store.err = nil
	s.graves.err = ErrPassing
	requireProblem(t, s.ask(t, get, "/v1/queues/default/dead", ""), http.StatusConflict, "dead-letters-busy")
	requireProblem(t, s.ask(t, get, "/v1/queues/lovage.dead/dead", ""), http.StatusNotFound, slugNotFound)
}

func TestAnUndecodableDeadLetterIsOnlyDiscarded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	m := &messages.Message{MessageID: "x", ContentType: "text/plain", Headers: map[string]any{}, Body: []byte("?")}
	messages.EncodeDeadLetter(m, messages.DeadLetter{Reason: messages.ReasonUndecodable, Error: "DecodeError: no"})
	s.graves.letters = []*messages.Message{m}
	w := s.ask(t, get, "/v1/queues/default/dead/x", "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.Nil(t, decode(t, w)["kwargs"])
	requireProblem(t, s.ask(t, post, "/v1/queues/default/dead/x/redrive", ""), http.StatusConflict, slugUndecodable)
	require.Len(t, s.left(), 1)
	require.Equal(t, http.StatusNoContent, s.ask(t, http.MethodDelete, "/v1/queues/default/dead/x", "").Code)
}

func TestRetryRunsATaskAgain(t *testing.T) {
	t.Parallel()
	s := graveyard(t)
	put := func(id string, state messages.State) {
		s.store.put(&messages.Result{TaskID: id, State: state, Name: "sleep_task", Queue: "default", Kwargs: []byte(`{"duration":3}`)})
	}
	put("b0", messages.Failure)
	w := s.ask(t, post, "/v1/tasks/b0/retry", "")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.NotContains(t, s.left(), "b0", "its dead letter is sent again")
	require.JSONEq(t, `{"duration":1}`, string(s.newest(t).task.Kwargs))

	put("gone", messages.Failure)
	put("revoked", messages.Revoked)
	for _, id := range []string{"gone", "revoked"} {
		w = s.ask(t, post, "/v1/tasks/"+id+"/retry", "")
		require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
		sent := s.newest(t).task
		require.Equal(t, messages.Attempt{ID: id, Run: 1}, sent.Attempt())
		require.JSONEq(t, `{"duration":3}`, string(sent.Kwargs))
		require.Equal(t, "default", sent.Queue)
	}
	put("done", messages.Success)
	requireProblem(t, s.ask(t, post, "/v1/tasks/done/retry", ""), http.StatusConflict, slugNotEnded)
	requireProblem(t, s.ask(t, post, "/v1/tasks/nobody/retry", ""), http.StatusNotFound, slugTaskNotFound)
}
