package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
)

// batchForm is how a batch is written, there and back.
type batchForm struct {
	answers  string
	splitter func(s *stream, limit int64) splitter
	// opening, between, after and closing surround the answers.
	opening, between, after, closing string
}

// readBatchForm checks what surrounds the items.
func (a *API) readBatchForm(r *http.Request) (batchForm, error) {
	if r.Header.Get("Idempotency-Key") != "" {
		return batchForm{}, newProblem(slugNoKeys,
			"a batch has no key of its own: give every item a task_id in its options; sending the same task_id again is a safe second try")
	}
	media, err := checkContentType(r.Header, "send Content-Type: application/json for an array, application/x-ndjson for a line per item",
		jsonType, ndjsonType, "application/jsonl")
	if err != nil {
		return batchForm{}, err
	}
	var none struct{}
	if errs := parseQuery(nil, r.URL.RawQuery, &none); len(errs) > 0 {
		return batchForm{}, invalid(slugParameters, errs)
	}
	if media == jsonType {
		return batchForm{
			answers: jsonType, opening: "[\n", between: ",\n", closing: "\n]\n",
			splitter: func(s *stream, limit int64) splitter { return newArraySplitter(s, limit) },
		}, nil
	}
	return batchForm{
		answers: ndjsonType, after: "\n",
		splitter: func(s *stream, limit int64) splitter { return newLineSplitter(s, limit) },
	}, nil
}

// batchAnswer documents the answer to one item.
type batchAnswer struct {
	Index   int            `json:"index" doc:"Which item, from 0. Lines without anything in them do not count."`
	Status  int            `json:"status" doc:"202: the broker has the task. Otherwise the status of the problem." example:"202"`
	TaskID  string         `json:"task_id,omitempty" doc:"Id of the task that was submitted."`
	State   messages.State `json:"state,omitempty" doc:"PENDING."`
	Problem *problem       `json:"problem,omitempty" doc:"Why the item was not submitted: what POST /v1/tasks would have answered."`
}

// appendAnswer writes the answer to the item, without an end of line.
func (it *batchItem) appendAnswer(out []byte) []byte {
	if it.text != nil {
		return append(out, it.text...)
	}
	out = append(out, `{"index":`...)
	out = strconv.AppendInt(out, int64(it.index), 10)
	out = append(out, `,"status":202,"task_id":`...)
	out = appendText(out, it.taskID)
	out = append(out, `,"state":`...)
	out = appendText(out, string(messages.Pending))
	return append(out, '}')
}

func appendProblem(index int, p *problem) []byte {
	text := bytes.TrimSpace(p.body())
	out := make([]byte, 0, len(text)+64)
	out = append(out, `{"index":`...)
	out = strconv.AppendInt(out, int64(index), 10)
	out = append(out, `,"status":`...)
	out = strconv.AppendInt(out, int64(p.Status), 10)
	out = append(out, `,"problem":`...)
	return append(append(out, text...), '}')
}

// appendText writes a JSON string. Most need no escapes.
func appendText(out []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string can always be encoded
			return append(out, quoted...)
		}
	}
	return append(append(append(out, '"'), s...), '"')
}

// documentBatch describes what huma cannot see: both forms of a body, and of
// its answer.
func documentBatch(d *documenter, envelope *huma.Schema) (*huma.RequestBody, map[string]*huma.Response) {
	line := *envelope
	line.Description = "One line; the body has one for each item."
	body := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		jsonType:            {Schema: &huma.Schema{Type: huma.TypeArray, Items: envelope}},
		ndjsonType:          {Schema: &line},
		"application/jsonl": {Schema: &line},
	}}
	answer := d.schema(reflect.TypeFor[batchAnswer]())
	responses := d.responses(bare(http.StatusOK, "An answer per item, in order. It begins while the request is still being read."))
	responses["200"].Content = map[string]*huma.MediaType{
		jsonType:   {Schema: &huma.Schema{Type: huma.TypeArray, Items: answer}},
		ndjsonType: {Schema: answer},
	}
	return body, responses
}
