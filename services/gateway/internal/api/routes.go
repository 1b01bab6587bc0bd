package api

import (
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/services/gateway/internal/docs"
)

const (
	routeTasks = "/v1/tasks"
	routeNamed = "/v1/tasks/{name}"
	routeTask  = "/v1/tasks/{id}"
	routeStop  = "/v1/tasks/{id}/cancel"
	routeRetry = "/v1/tasks/{id}/retry"
	routeDead  = "/v1/queues/{queue}/dead"
	routeBatch = "/v1/batches"
	// routeOperations are the operations on a queue.
	routeOperations = "/v1/queues/{queue}/operations"
	// routeTaskOperations are the operations on tasks.
	routeTaskOperations = "/v1/operations"
)

// register puts every route on the router and returns the document about them.
func (a *API) register(e *echo.Echo) (*openAPI, error) {
	config := huma.DefaultConfig("Lovage", a.opts.Version)
	config.Info.Description = apiDescription
	config.Tags = []*huma.Tag{
		{Name: tagCatalog, Description: "The tasks of the catalog, each with its own input."},
		{Name: tagTasks},
		{Name: tagQueues},
		{Name: tagDead},
		{Name: tagFleet},
		{Name: tagAudit},
		{Name: tagHealth},
	}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		securityScheme: {Type: "http", Scheme: "bearer", Description: "An API key, as lovage keys create prints it. Needed where the gateway was given keys."},
	}
	// The document and its page are served by this package: they change with
	// the catalog and must work without internet access.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil
	// A client must not break when a field is added.
	config.AllowAdditionalPropertiesByDefault = true
	h := humaecho.New(e, config)
	d := &documenter{registry: h.OpenAPI().Components.Schemas, doc: h.OpenAPI()}
	a.submitRoutes(h, d)
	a.steerRoutes(h, d)
	a.bulkRoutes(h, d)
	a.queueRoutes(h, d)
	a.deadRoutes(h, d)
	a.readRoutes(h, d)
	a.workerRoutes(h, d)
	a.logRoutes(h, d)
	a.auditRoutes(h, d)
	healthRoutes(a, h, d)
	e.GET("/openapi.json", a.serveOpenAPI)
	page := echo.WrapHandler(docs.Handler(http.HandlerFunc(notFound)))
	e.GET("/docs", page)
	e.GET("/docs/*", page)
	return newOpenAPI(d.finish())
}

func (a *API) submitRoutes(h huma.API, d *documenter) {
	prefer := &huma.Param{
		Name: "Prefer", In: "header", Description: "wait=N waits up to N seconds for the outcome (RFC 7240).",
		Schema: &huma.Schema{Type: huma.TypeString}, Example: "wait=20",
	}
	trace := traceParam()
	key := &huma.Param{
		Name: keyHeader, In: "header", Example: `"8e03978e-40d5-43e8-bc93-6894a57f9324"`,
		Description: "Makes a second try safe: however often the same request comes with this key, there is one task, and the answer is repeated " +
			"(Idempotency-Replayed: true). A string in quotes, or the same without them; 1 to 255 characters.",
		Schema: &huma.Schema{Type: huma.TypeString},
	}
	timeout := &huma.Param{
		Name: timeoutHeader, In: "header", Example: "5",
		Description: fmt.Sprintf("How many seconds RabbitMQ has to confirm the task; %v without this header. Then the answer is publish-unconfirmed.", a.opts.PublishTimeout.Seconds()),
		Schema:      &huma.Schema{Type: huma.TypeNumber, Minimum: new(shortestTimeout.Seconds()), Maximum: new(a.opts.MaxPublishTimeout.Seconds())},
	}
	name := &huma.Param{
		Name: "name", In: "path", Required: true, Description: "Kind of the task, see /v1/catalog.",
		Schema: &huma.Schema{Type: huma.TypeString},
	}
	route(h, huma.Operation{
		OperationID: "submit-task", Method: http.MethodPost, Path: routeNamed, Tags: []string{tagTasks},
		Summary:     "Submit a task by name",
		Description: "The body is the task's own input. 202 means that the broker has confirmed the message.",
		Parameters:  append([]*huma.Param{name, prefer, key, timeout, trace}, document(a.options)...),
		Responses:   d.submitResponses(), DefaultStatus: http.StatusAccepted,
	}, jsonBody(&huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}), a.admitted(a.oncePerKey(a.queryOptions, a.submitNamed)))
	route(h, huma.Operation{
		OperationID: "submit-envelope", Method: http.MethodPost, Path: routeTasks, Tags: []string{tagTasks},
		Summary:     "Submit any task",
		Description: "For positional arguments, and for tasks that are not in the catalog: those need options.queue.",
		Parameters:  []*huma.Param{prefer, key, timeout, trace},
		Responses:   d.submitResponses(), DefaultStatus: http.StatusAccepted,
	}, jsonBody(envelopeSchema(a.options)), a.admitted(a.oncePerKey(a.envelopeOptions, a.submitEnvelope)))
	body, responses := documentBatch(d, envelopeSchema(a.options))
	routeStream(h, huma.Operation{
		OperationID: "submit-batch", Method: http.MethodPost, Path: routeBatch, Tags: []string{tagTasks},
		Summary:     "Submit many tasks",
		Description: "Envelopes in, an answer per item out, in the same order and while the rest is still being sent. 200 says that the batch is being read; look at the status of every item.",
		Parameters:  []*huma.Param{timeout, trace}, Responses: responses,
	}, body, a.submitBatch)
}

func traceParam() *huma.Param {
	return &huma.Param{
		Name: "traceparent", In: "header", Description: "W3C trace context, passed on to the worker.",
		Schema: &huma.Schema{Type: huma.TypeString},
	}
}

func (a *API) steerRoutes(h huma.API, d *documenter) {
	id := &huma.Param{Name: "id", In: "path", Required: true, Description: "Id of the task.", Schema: &huma.Schema{Type: huma.TypeString}}
	route(h, huma.Operation{
		OperationID: "cancel-task", Method: http.MethodPost, Path: routeStop, Tags: []string{tagTasks}, Summary: "Cancel a task",
		Description: "A task that waits in its queue or for its time is revoked at once. The worker of one that runs is told to stop. There is no body.",
		Parameters:  []*huma.Param{id},
		Responses: d.responses(typed[task](http.StatusOK, "The task is revoked."),
			typed[task](http.StatusAccepted, "A worker runs it and is told to stop. It may still end in another state.")),
	}, nil, a.cancelTask)
	route(h, huma.Operation{
		OperationID: "retry-task", Method: http.MethodPost, Path: routeRetry, Tags: []string{tagTasks}, Summary: "Run a task again",
		Description: "A task that has failed or was revoked runs anew under the same id. There is no body.",
		Parameters:  []*huma.Param{id}, DefaultStatus: http.StatusAccepted,
		Responses: d.responses(typed[restarted](http.StatusAccepted, "The task is queued again.")),
	}, nil, a.retryTask)
}

func (a *API) queueRoutes(h huma.API, d *documenter) {
	name := &huma.Param{Name: "queue", In: "path", Required: true, Description: "Work queue.", Schema: &huma.Schema{Type: huma.TypeString}}
	route(h, huma.Operation{
		OperationID: "list-queues", Method: http.MethodGet, Path: "/v1/queues", Tags: []string{tagQueues}, Summary: "List the work queues",
		Responses: d.responses(typed[queueList](http.StatusOK, "The queues by name.")),
	}, nil, a.listQueues)
	route(h, huma.Operation{
		OperationID: "get-queue", Method: http.MethodGet, Path: "/v1/queues/{queue}", Tags: []string{tagQueues}, Summary: "Read a work queue",
		Parameters: []*huma.Param{name}, Responses: d.responses(typed[queue](http.StatusOK, "The queue.")),
	}, nil, a.getQueue)
	route(h, huma.Operation{
		OperationID: "pause-queue", Method: http.MethodPost, Path: "/v1/queues/{queue}/pause", Tags: []string{tagQueues}, Summary: "Pause a queue",
		Description: "Within a second or two no worker takes anything from it, until it is resumed. What they have taken is finished, and submissions are taken as ever.",
		Parameters:  []*huma.Param{name}, Responses: d.responses(typed[changedQueue](http.StatusOK, "It is paused.")),
	}, nil, a.steer(messages.QueuePaused))
	route(h, huma.Operation{
		OperationID: "drain-queue", Method: http.MethodPost, Path: "/v1/queues/{queue}/drain", Tags: []string{tagQueues}, Summary: "Drain a queue",
		Description: "Within two seconds it takes no new tasks, until it is resumed: they are answered queue-draining. Workers finish what it has, and what comes yet of delayed tasks and retries.",
		Parameters:  []*huma.Param{name}, Responses: d.responses(typed[changedQueue](http.StatusOK, "It is draining.")),
	}, nil, a.steer(messages.QueueDraining))
	route(h, huma.Operation{
		OperationID: "resume-queue", Method: http.MethodPost, Path: "/v1/queues/{queue}/resume", Tags: []string{tagQueues}, Summary: "Resume a queue",
		Description: "It ends a pause or a drain.",
		Parameters:  []*huma.Param{name}, Responses: d.responses(typed[changedQueue](http.StatusOK, "It is running.")),
	}, nil, a.steer(messages.QueueRunning))
	route(h, huma.Operation{
		OperationID: "purge-queue", Method: http.MethodPost, Path: "/v1/queues/{queue}/purge", Tags: []string{tagQueues}, Summary: "Purge a queue",
		Description: "The tasks that wait in it are revoked, the first ones first. Those that workers have fetched run, those that are delayed come yet, and dead letters stay. There is no body.",
		Parameters:  append([]*huma.Param{name}, document(purgeParams())...), Responses: d.responses(typed[purged](http.StatusOK, "What became of them.")),
	}, nil, a.purgeQueue)
}

func (a *API) deadRoutes(h huma.API, d *documenter) {
	str := &huma.Schema{Type: huma.TypeString}
	queue := &huma.Param{Name: "queue", In: "path", Required: true, Description: "Work queue.", Schema: str}
	id := &huma.Param{Name: "id", In: "path", Required: true, Description: "Id of the task.", Schema: str}
	async := &huma.Param{
		Name: "Prefer", In: "header", Schema: str, Example: respondAsync,
		Description: "respond-async does it beside the requests, as an operation that can be followed and cancelled (RFC 7240). A dry run is always answered at once.",
	}
	tags := []string{tagDead}
	route(h, huma.Operation{
		OperationID: "list-dead-letters", Method: http.MethodGet, Path: routeDead, Tags: tags, Summary: "List the dead letters of a queue",
		Parameters: append([]*huma.Param{queue}, document(deadListParams())...),
		Responses:  d.responses(typed[deadList](http.StatusOK, "A page of them, the oldest first.")),
	}, nil, a.listDead)
	route(h, huma.Operation{
		OperationID: "group-dead-letters", Method: http.MethodGet, Path: "/v1/queues/{queue}/dead-groups", Tags: tags,
		Summary:    "Count the dead letters of a queue by task, reason and error",
		Parameters: append([]*huma.Param{queue}, document(deadFilterParams())...),
		Responses:  d.responses(typed[deadGroups](http.StatusOK, "The groups, the largest first.")),
	}, nil, a.groupDead)
	route(h, huma.Operation{
		OperationID: "get-dead-letter", Method: http.MethodGet, Path: routeDead + "/{id}", Tags: tags, Summary: "Read a dead letter",
		Parameters: []*huma.Param{queue, id},
		Responses:  d.responses(typed[deadLetterWhole](http.StatusOK, "The dead letter with its input.")),
	}, nil, a.getDead)
	route(h, huma.Operation{
		OperationID: "redrive-dead-letter", Method: http.MethodPost, Path: routeDead + "/{id}/redrive", Tags: tags, Summary: "Send a dead letter again",
		Description: "The body, where there is one, is the input to run it with instead.",
		Parameters:  []*huma.Param{queue, id}, DefaultStatus: http.StatusAccepted,
		Responses: d.responses(typed[restarted](http.StatusAccepted, "The task is queued again.")),
	}, optionalBody(&huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}), a.redriveOne)
	route(h, huma.Operation{
		OperationID: "discard-dead-letter", Method: http.MethodDelete, Path: routeDead + "/{id}", Tags: tags, Summary: "Discard a dead letter",
		Parameters: []*huma.Param{queue, id}, DefaultStatus: http.StatusNoContent,
		Responses: d.responses(bare(http.StatusNoContent, "It is gone.")),
	}, nil, a.discardOne)
	for _, bulk := range []struct {
		verb, summary string
		handle        handler
	}{
		{"redrive", "Send dead letters again", a.redriveDead},
		{"discard", "Discard dead letters", a.discardDead},
	} {
		route(h, huma.Operation{
			OperationID: bulk.verb + "-dead-letters", Method: http.MethodPost, Path: "/v1/queues/{queue}/" + bulk.verb, Tags: tags, Summary: bulk.summary,
			Description: "Of all that the query means, up to the limit. Hanging up stops it, unless respond-async is preferred; to ask again is safe. There is no body.",
			Parameters:  append([]*huma.Param{queue, async}, document(bulkParams())...),
			Responses: d.responses(typed[dealt](http.StatusOK, "What became of them."),
				typed[operation](http.StatusAccepted, "It goes on beside: Location names the operation.")),
		}, nil, bulk.handle)
	}
	route(h, huma.Operation{
		OperationID: "list-operations", Method: http.MethodGet, Path: routeOperations, Tags: tags, Summary: "List the operations on a queue",
		Parameters: []*huma.Param{queue},
		Responses:  d.responses(typed[operationList](http.StatusOK, "The 20 newest, those that ended less than LOVAGE_RESULT_TTL ago.")),
	}, nil, a.listOperations)
	which := &huma.Param{Name: "id", In: "path", Required: true, Description: "Id of the operation.", Schema: str}
	route(h, huma.Operation{
		OperationID: "get-operation", Method: http.MethodGet, Path: routeOperations + "/{id}", Tags: tags, Summary: "See how far an operation is",
		Parameters: []*huma.Param{queue, which}, Responses: d.responses(typed[operation](http.StatusOK, "The operation.")),
	}, nil, a.getOperation)
	route(h, huma.Operation{
		OperationID: "cancel-operation", Method: http.MethodPost, Path: routeOperations + "/{id}/cancel", Tags: tags, Summary: "Cancel an operation",
		Description: "It stops between two dead letters, about a second later. What was done is done, all else stays in its order. There is no body.",
		Parameters:  []*huma.Param{queue, which}, DefaultStatus: http.StatusAccepted,
		Responses: d.responses(typed[operation](http.StatusAccepted, "It is told to stop."), typed[operation](http.StatusOK, "It is cancelled.")),
	}, nil, a.cancelOperation)
}

// restarted is the answer when a task is to run again.
type restarted struct {
	TaskID string         `json:"task_id" doc:"Id of the task."`
	State  messages.State `json:"state" doc:"PENDING."`
}

func (a *API) readRoutes(h huma.API, d *documenter) {
	id := &huma.Param{Name: "id", In: "path", Required: true, Description: "Id of the task.", Schema: &huma.Schema{Type: huma.TypeString}}
	have := &huma.Param{
		Name: "If-None-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
		Description: "ETag of what you have: 304 when nothing has changed.",
	}
	prefer := &huma.Param{
		Name: "Prefer", In: "header", Schema: &huma.Schema{Type: huma.TypeString}, Example: "wait=20",
		Description: "wait=N waits up to N seconds until the task is final; together with If-None-Match, until it has changed.",
	}
	route(h, huma.Operation{
		OperationID: "get-task", Method: http.MethodGet, Path: routeTask, Tags: []string{tagTasks}, Summary: "Read a task",
		Parameters: []*huma.Param{id, have, prefer},
		Responses:  d.responses(typed[task](http.StatusOK, "The task."), bare(http.StatusNotModified, "It is as you have it.")),
	}, nil, a.getTask)
	routeStream(h, huma.Operation{
		OperationID: "watch-task", Method: http.MethodGet, Path: routeTask + "/events", Tags: []string{tagTasks}, Summary: "Watch a task",
		Description: "Server-Sent Events: a task event with the task as it stands, another one after each change, and the end of the stream when it is final. What changes quickly is not told in every state.",
		Parameters:  []*huma.Param{id, lastEventParam("A task that has not changed since is not told again.")},
		Responses: withEvents(d.responses(bare(http.StatusNoContent, "The task is final and you have seen it so: there is nothing to come.")),
			"Events. The data of a task event is a task as in a list."),
	}, nil, a.stream(a.taskEvents))
	eventsRoute(a, h, d)
	route(h, huma.Operation{
		OperationID: "get-callback", Method: http.MethodGet, Path: routeTask + "/callback", Tags: []string{tagTasks}, Summary: "See what has become of a callback",
		Description: "Of a task that was submitted with callback_url: each attempt to tell its end.",
		Parameters:  []*huma.Param{id}, Responses: d.responses(typed[Callback](http.StatusOK, "The callback.")),
	}, nil, a.getCallback)
	route(h, huma.Operation{
		OperationID: "list-tasks", Method: http.MethodGet, Path: routeTasks, Tags: []string{tagTasks}, Summary: "List tasks, newest first",
		Parameters: document(a.filters), Responses: d.responses(typed[taskList](http.StatusOK, "A page of tasks.")),
	}, nil, a.listTasks)
	route(h, huma.Operation{
		OperationID: "get-catalog", Method: http.MethodGet, Path: "/v1/catalog", Tags: []string{tagFleet}, Summary: "What tasks there are",
		Responses: d.responses(typed[catalogList](http.StatusOK, "The catalog.")),
	}, nil, a.getCatalog)
}

func (a *API) auditRoutes(h huma.API, d *documenter) {
	route(h, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/v1/audit", Tags: []string{tagAudit}, Summary: "Who has steered what",
		Description: "The last 10,000 or so: what was asked of queues, dead letters, operations and tasks that were submitted before, also in vain, and who has logged in.",
		Parameters:  document(auditParams()), Responses: d.responses(typed[auditList](http.StatusOK, "A page of them, the newest first.")),
	}, nil, a.listAudit)
}

func healthRoutes(a *API, h huma.API, d *documenter) {
	route(h, huma.Operation{
		OperationID: "livez", Method: http.MethodGet, Path: routeLive, Tags: []string{tagHealth}, Summary: "Is the process alive",
		Responses: d.responses(typed[alive](http.StatusOK, "It is.")),
	}, nil, a.live)
	route(h, huma.Operation{
		OperationID: "readyz", Method: http.MethodGet, Path: routeReady, Tags: []string{tagHealth}, Summary: "Should requests come here",
		Description: "RabbitMQ and Redis are reported, not obeyed.",
		Responses: d.responses(typed[health](http.StatusOK, "Yes."),
			typed[health](http.StatusServiceUnavailable, "No: the server is stopping.")),
	}, nil, a.ready)
}

// documented is one response of an operation; typ is nil where there is no body.
type documented struct {
	status      int
	description string
	typ         reflect.Type
}

func typed[T any](status int, description string) documented {
	return documented{status, description, reflect.TypeFor[T]()}
}

func bare(status int, description string) documented { return documented{status, description, nil} }

// documenter writes the static part of the document.
type documenter struct {
	registry huma.Registry
	doc      *huma.OpenAPI
}

func (d *documenter) responses(list ...documented) map[string]*huma.Response {
	fault := &huma.Response{
		Description: "What went wrong, as RFC 9457 asks.",
		Content:     map[string]*huma.MediaType{problemType: {Schema: d.schema(reflect.TypeFor[problem]())}},
	}
	out := map[string]*huma.Response{"default": fault}
	for _, r := range list {
		response := &huma.Response{Description: r.description}
		if r.typ != nil {
			response.Content = map[string]*huma.MediaType{"application/json": {Schema: d.schema(r.typ)}}
		}
		out[strconv.Itoa(r.status)] = response
	}
	return out
}

func (d *documenter) submitResponses() map[string]*huma.Response {
	return d.responses(typed[task](http.StatusAccepted, "The broker has the task."),
		typed[task](http.StatusOK, "The task is done: the client preferred to wait."))
}

func (d *documenter) schema(t reflect.Type) *huma.Schema { return d.registry.Schema(t, true, t.Name()) }

// finish corrects what huma cannot know: an object that is shown as null, and
// a model of errors that is not ours.
func (d *documenter) finish() *huma.OpenAPI {
	schemas := d.registry.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	properties := schemas["Task"].Properties
	for _, name := range []string{"progress", "error"} {
		object := properties[name]
		properties[name] = &huma.Schema{Description: object.Description, OneOf: []*huma.Schema{{Ref: object.Ref}, {Type: "null"}}}
	}
	return d.doc
}

func optionalBody(s *huma.Schema) *huma.RequestBody {
	body := jsonBody(s)
	body.Required = false
	return body
}

func jsonBody(s *huma.Schema) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: s}}}
}
