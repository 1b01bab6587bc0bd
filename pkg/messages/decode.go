package messages

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Decode reads a task message: Celery's protocol 2, protocol 1 and the hybrid
// of both (protocol 2 headers over a protocol 1 body). The error is always a
// [*DecodeError].
//
// Args, Kwargs and Embed of the task are parts of m.Body where it is not
// compressed, so the body must not be changed afterwards. Whole numbers in
// headers may be of any Go type. Headers that the broker added, that bear a
// reserved name or that begin with "lovage_" do not get into Headers; the
// values that do are string, bool, int32, float64, nil, []any and
// map[string]any. What decodes also passes [Task.Validate].
//
// Python writes NaN, Infinity and -Infinity as bare words, which are not JSON.
// A message with one is refused: no value that could stand in for it would be
// what the sender meant.
func Decode(m *Message) (*Task, error) {
	d := decoder{m: m, r: headerReader{table: m.Headers}}
	t, err := d.decode()
	if err != nil {
		return nil, d.explain(err)
	}
	return t, nil
}

// decoder holds what is known about a message while it is read.
type decoder struct {
	m *Message
	// r reads the headers, which for protocol 1 come from the body.
	r headerReader
}

// decodeFault is why a message cannot be read.
type decodeFault struct {
	why string
	err error
}

func (f *decodeFault) Error() string { return f.why }

func fault(why string, err error) error { return &decodeFault{why: why, err: err} }

func (d *decoder) decode() (*Task, error) {
	body, err := d.plainBody()
	if err != nil {
		return nil, err
	}
	t := &Task{}
	if kind(body) == '{' {
		err = d.legacy(t, body)
	} else {
		err = d.body(t, body)
	}
	if err != nil {
		return nil, err
	}
	if err := d.headers(t); err != nil {
		return nil, err
	}
	f := faults{}
	t.validateFields(&f)
	if len(f.list) > 0 {
		return nil, fault("the headers are not valid", f.join())
	}
	return t, nil
}

// explain adds to an error who the message is about.
func (d *decoder) explain(err error) *DecodeError {
	out := &DecodeError{Why: err.Error()}
	if f, ok := errors.AsType[*decodeFault](err); ok {
		out.Err = f.err
	}
	out.ID = d.identity("id")
	out.Name = d.identity("task")
	out.Retries = d.number("retries")
	out.Run = d.number(headerRun)
	return out
}

// identity reads a name leniently: a number is taken for its digits, since a
// sender who used it as an id looks for the outcome under them.
func (d *decoder) identity(header string) string {
	v := d.r.table[header]
	s, ok := v.(string)
	if n, whole := asInt(v); !ok && whole {
		s = strconv.FormatInt(n, 10)
	}
	if nameRule(s) != "" {
		return ""
	}
	return s
}

func (d *decoder) number(header string) int {
	r := headerReader{table: d.r.table}
	return r.count(header)
}

// plainBody returns the body as checked JSON text.
func (d *decoder) plainBody() ([]byte, error) {
	if err := contentType(d.m.ContentType); err != nil {
		return nil, err
	}
	if err := contentEncoding(d.m.ContentEncoding); err != nil {
		return nil, err
	}
	body := d.m.Body
	if v := d.m.Headers["compression"]; v != nil && v != "" {
		if v != compressionZlib {
			return nil, fault("the compression is unknown, only "+compressionZlib+" is read", nil)
		}
		inflated, err := inflate(body, InflateLimit)
		if err != nil {
			return nil, fault("the compressed body cannot be read as zlib", err)
		}
		body = inflated
	}
	if kind(body) == 0 {
		return nil, fault("the body is empty", nil)
	}
	if err := checkJSON(body); err != nil {
		return nil, fault("the body is not JSON", err)
	}
	if !utf8.Valid(body) {
		return nil, fault("the body is not UTF-8", nil)
	}
	return body, nil
}

func contentType(s string) error {
	if s == "" {
		return fault("the content type is missing", nil)
	}
	media, _, _ := strings.Cut(s, ";")
	if !strings.EqualFold(strings.TrimSpace(media), "application/json") {
		return fault("the content type is "+strconv.Quote(clip(s, 100))+", only application/json is read", nil)
	}
	return nil
}

func contentEncoding(s string) error {
	switch strings.ToLower(s) {
	case "", "utf-8", "utf8", "us-ascii", "ascii", "binary":
		return nil
	}
	return fault("the content encoding is "+strconv.Quote(clip(s, 100))+", only utf-8 is read", nil)
}

// body reads a protocol 2 body.
func (d *decoder) body(t *Task, body []byte) error {
	if _, ok := d.m.Headers["task"]; !ok {
		return fault("it is not a task message: no header task", nil)
	}
	if kind(body) != '[' {
		return fault("the body is not [args, kwargs, embed]", nil)
	}
	var parts [3]json.RawMessage
	n := 0
	for part := range elements(body) {
		if n < len(parts) {
			parts[n] = part
		}
		n++
	}
	if n != len(parts) {
		return fault("the body has "+strconv.Itoa(n)+" elements, not the three of [args, kwargs, embed]", nil)
	}
	return payload(t, parts[0], parts[1], parts[2])
}

// payload takes the three parts of a body over into the task.
func payload(t *Task, args, kwargs, embed json.RawMessage) error {
	if rule := shapeRule(args, '['); rule != "" {
		return fault("args "+rule, nil)
	}
	if rule := shapeRule(kwargs, '{'); rule != "" {
		return fault("kwargs "+rule, nil)
	}
	t.Args, t.Kwargs = args, kwargs
	if noEmbed(embed) {
		return nil
	}
	if rule := shapeRule(embed, '{'); rule != "" {
		return fault("embed "+rule, nil)
	}
	t.Embed = embed
	return nil
}

// noEmbed reports whether the third part of a body says nothing: null, {}, []
// and an object of nulls all do.
func noEmbed(embed []byte) bool {
	switch kind(embed) {
	case 'n':
		return true
	case '[':
		for range elements(embed) {
			return false
		}
		return true
	case '{':
		for _, value := range members(embed) {
			if kind(value) != 'n' {
				return false
			}
		}
		return true
	}
	return false
}

// headers reads everything but the payload.
func (d *decoder) headers(t *Task) error {
	r := &d.r
	t.ID, t.Name = r.str("id"), r.str("task")
	t.Retries, t.Run = r.count("retries"), r.count(headerRun)
	t.MaxRetries = r.optional(headerMaxRetries)
	t.ETA, t.Expires = r.time("eta"), r.time("expires")
	t.TimeLimit, t.SoftTimeLimit = r.limits("timelimit")
	t.RootID, t.ParentID, t.Group = r.str("root_id"), r.str("parent_id"), r.str("group")
	t.GroupIndex = r.optional("group_index")
	t.Shadow, t.Origin, t.Lang = r.info("shadow"), r.info("origin"), r.info("lang")
	t.ArgsRepr, t.KwargsRepr = r.info("argsrepr"), r.info("kwargsrepr")
	t.IgnoreResult = r.boolean("ignore_result")
	t.Retention = r.seconds(headerRetention, r.table[headerRetention])
	t.ReplacedTaskNesting = r.count("replaced_task_nesting")
	t.StampedHeaders, t.Stamps = r.strings("stamped_headers"), r.jsonTable("stamps")
	t.TraceParent, t.TraceState = r.info("traceparent"), r.info("tracestate")
	t.Queue, t.Created = r.str(headerQueue), r.time(headerCreated)
	t.Attempts = decodeAttempts([]byte(r.info(headerAttempts)))
	t.Headers = r.others()
	if r.err != nil {
		return fault("a header is not valid", r.err)
	}
	switch {
	case t.Name == "":
		return fault("the task has no name", nil)
	case t.ID == "":
		return fault("the task has no id", nil)
	}
	d.defaults(t)
	return nil
}

// defaults fills in what the headers may leave out.
func (d *decoder) defaults(t *Task) {
	t.ReplyTo, t.Priority = d.m.ReplyTo, d.m.Priority
	if t.RootID == "" {
		t.RootID = t.ID
	}
	if t.Queue == "" {
		t.Queue = undelayed(d.m.RoutingKey)
	}
	if t.Created.IsZero() {
		t.Created, _ = IDTime(t.ID)
	}
}

// undelayed returns a routing key without what Celery's native delayed delivery
// puts before it: 28 bits, each with a dot. They can be there more than once.
func undelayed(key string) string {
	const prefix = 28 * 2
	for len(key) > prefix {
		for i := 0; i < prefix; i += 2 {
			if key[i] != '0' && key[i] != '1' || key[i+1] != '.' {
				return key
			}
		}
		key = key[prefix:]
	}
	return key
}

// clip cuts s to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if r, size := utf8.DecodeLastRuneInString(s); r == utf8.RuneError && size == 1 {
			s = s[:len(s)-1]
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
