package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

const patience = 20 * time.Second

// redisOperations are operations in a Redis.
type redisOperations struct{ *results.Store }

func (r redisOperations) List(ctx context.Context, queue string) ([]StoredOperation, error) {
	return convert(r.Operations(ctx, queue))
}

func (r redisOperations) Open(ctx context.Context) ([]StoredOperation, error) {
	return convert(r.OpenOperations(ctx))
}

func convert(list []results.Operation, err error) (out []StoredOperation, _ error) {
	for _, o := range list {
		out = append(out, StoredOperation(o))
	}
	return out, err
}

func (r redisOperations) Cancel(ctx context.Context, id string) error {
	return r.CancelOperation(ctx, id)
}

func (r redisOperations) Begin(ctx context.Context, o StoredOperation, token string) (string, error) {
	return r.BeginOperation(ctx, results.Operation(o), token)
}

func (r redisOperations) Take(ctx context.Context, id, token string) (StoredOperation, error) {
	o, err := r.TakeOperation(ctx, id, token)
	return StoredOperation(o), err
}

func (r redisOperations) Save(ctx context.Context, o StoredOperation, token string) (bool, error) {
	return r.SaveOperation(ctx, results.Operation(o), token)
}

// operationsIn keeps the operations of a server in a Redis.
func operationsIn(t *testing.T, url string, lease time.Duration) func(*Options) {
	t.Helper()
	client, err := results.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	r := redisOperations{results.New(results.Options{Client: client, Lease: lease})}
	return func(o *Options) { o.Operations, o.OperationLeases = r, r }
}

// operator is a graveyard with operations, which are worked on after run.
func operator(t *testing.T) *server {
	t.Helper()
	return quick(graveyard(t, operationsIn(t, devstack.Redis(t), time.Minute)))
}

func quick(s *server) *server {
	s.operationTimes = operationTimes{save: 10 * time.Millisecond, look: 20 * time.Millisecond, pass: time.Minute, pause: 10 * time.Millisecond, giveUp: time.Minute}
	return s
}

// run works on operations until the test is over.
func (s *server) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// sibling is another gateway with the same broker and store.
func (s *server) sibling(t *testing.T) *server {
	t.Helper()
	other := newServer(t, func(o *Options) { *o = s.opts })
	other.graves, other.publisher, other.store = s.graves, s.publisher, s.store
	return quick(other)
}

const preferAsync = "Prefer: respond-async"

// begin begins an operation and returns where it is.
func (s *server) begin(t *testing.T, target string) (at string) {
	t.Helper()
	w := s.ask(t, post, target, "", preferAsync)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Equal(t, "respond-async", w.Header().Get("Preference-Applied"))
	s.requireSchema(t, "Operation", w)
	o := decode(t, w)
	require.Equal(t, "running", o["state"])
	require.Equal(t, "/v1/queues/"+o["queue"].(string)+"/operations/"+o["id"].(string), w.Header().Get("Location"))
	return w.Header().Get("Location")
}

func (s *server) operationAt(t *testing.T, at string) (o operation) {
	t.Helper()
	w := s.ask(t, get, at, "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &o))
	return o
}

// await waits until the operation is as wanted.
func (s *server) await(t *testing.T, at string, wanted func(operation) bool) (o operation) {
	t.Helper()
	require.Eventually(t, func() bool {
		o = s.operationAt(t, at)
		return wanted(o)
	}, patience, 5*time.Millisecond)
	return o
}

func in(state string) func(operation) bool {
	return func(o operation) bool { return o.State == state }
}

func underWay(o operation) bool { return o.Redriven > 0 }

// sentIDs are the ids of what was sent, in order.
func (s *server) sentIDs() (ids []string) {
	s.publisher.mu.Lock()
	defer s.publisher.mu.Unlock()
	for _, p := range s.publisher.sent {
		ids = append(ids, p.task.ID)
	}
	return ids
}

func TestManyDeadLettersAreDealtWithBesideTheRequests(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.run(t)
	w := s.ask(t, post, "/v1/queues/default/redrive?all=true&dry_run=true", "", preferAsync)
	require.Equal(t, http.StatusOK, w.Code, "nothing is done, so there is nothing to follow")

	at := s.begin(t, "/v1/queues/default/redrive?name=sleep_task&limit=3&rate=1000")
	o := s.await(t, at, in(stateDone))
	require.Equal(t, Counts{Matched: 3, Redriven: 3}, o.Counts)
	require.True(t, o.More)
	require.Equal(t, "redrive", o.Kind)
	require.Equal(t, "sleep_task", *o.Filter.Name)
	require.Equal(t, 1000, *o.Rate)
	require.Equal(t, o.Started, *o.Filter.Until)
	require.NotNil(t, o.Ended)
	require.Equal(t, []string{"a0", "a1", "a2"}, s.sentIDs())
	require.Equal(t, []string{"b0", "b1", "c0"}, s.left())

	s.store.put(&messages.Result{TaskID: "b0", State: messages.Success, Run: 1})
	s.store.put(&messages.Result{TaskID: "b1", State: messages.Started})
	o = s.await(t, s.begin(t, "/v1/queues/default/redrive?all=true"), in(stateDone))
	require.Equal(t, Counts{Matched: 3, Redriven: 1, Superseded: 1, Running: 1}, o.Counts)
	require.Equal(t, 3, o.Looked)
	require.False(t, o.More)
	o = s.await(t, s.begin(t, "/v1/queues/default/discard?all=true"), in(stateDone))
	require.Equal(t, Counts{Matched: 1, Discarded: 1}, o.Counts)
	require.Empty(t, s.left())

	w = s.ask(t, get, "/v1/queues/default/operations", "")
	s.requireSchema(t, "OperationList", w)
	list := decode(t, w)["operations"].([]any)
	require.Len(t, list, 3)
	require.Equal(t, "discard", list[0].(map[string]any)["kind"], "the newest is the first")
}

func TestAnOperationIsCancelledBetweenTwoLetters(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.run(t)
	all := s.left()
	at := s.begin(t, "/v1/queues/default/redrive?all=true&rate=1")
	s.await(t, at, underWay)
	w := s.ask(t, post, at+"/cancel", "")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Equal(t, true, decode(t, w)["cancelling"])
	o := s.await(t, at, in(stateCancelled))
	require.Less(t, o.Redriven, len(all))
	require.Equal(t, all[:o.Redriven], s.sentIDs())
	require.Equal(t, all[o.Redriven:], s.left(), "the rest stays in its order")
	require.False(t, o.Cancelling)

	require.Equal(t, http.StatusOK, s.ask(t, post, at+"/cancel", "").Code, "again is fine")
	done := s.begin(t, "/v1/queues/default/discard?all=true")
	s.await(t, done, in(stateDone))
	p := requireProblem(t, s.ask(t, post, done+"/cancel", ""), http.StatusConflict, slugOperationEnded)
	require.Contains(t, done, p.OperationID)
	const nobodys = "/v1/queues/default/operations/nobody"
	requireProblem(t, s.ask(t, get, nobodys, ""), http.StatusNotFound, slugNoOperation)
	requireProblem(t, s.ask(t, post, nobodys+"/cancel", ""), http.StatusNotFound, slugNoOperation)
}

func TestAQueueIsDealtWithByOneOperationAtATime(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.run(t)
	at := s.begin(t, "/v1/queues/default/redrive?all=true&rate=1")
	p := requireProblem(t, s.ask(t, post, "/v1/queues/default/discard?all=true", "", preferAsync), http.StatusConflict, slugOperationOpen)
	require.Equal(t, at, "/v1/queues/default/operations/"+p.OperationID)
	s.await(t, s.begin(t, "/v1/queues/mail/redrive?all=true"), in(stateDone))
	s.ask(t, post, at+"/cancel", "")
	s.await(t, at, in(stateCancelled))
	s.await(t, s.begin(t, "/v1/queues/default/discard?all=true"), in(stateDone))
}

func TestAnotherGatewayGoesOnWithAnOperation(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.run(t)
	all := s.left()
	at := s.begin(t, "/v1/queues/default/redrive?all=true&rate=2")
	s.await(t, at, underWay)
	s.Drain()
	s.Rest(t.Context())
	o := s.operationAt(t, at)
	require.Equal(t, stateInterrupted, o.State)
	require.Less(t, o.Redriven, len(all))
	require.Equal(t, all[o.Redriven:], s.left())
	later := s.begin(t, "/v1/queues/mail/redrive?all=true")
	require.Equal(t, stateInterrupted, s.operationAt(t, later).State, "it takes operations, and leaves them to others")

	other := s.sibling(t)
	other.run(t)
	o = s.await(t, at, in(stateDone))
	require.Equal(t, Counts{Matched: len(all), Redriven: len(all)}, o.Counts)
	require.Equal(t, all, s.sentIDs(), "each once")
	s.await(t, later, in(stateDone))
}

// died enters an operation as a gateway does that dies right after, having
// started so often.
func (s *server) died(t *testing.T, starts int) (at string) {
	t.Helper()
	o := operationRecord{operation: newOperation(kindRedrive, "default", &deadQuery{}), Starts: starts}
	kept, err := o.store("", true)
	require.NoError(t, err)
	running, err := s.opts.OperationLeases.Begin(t.Context(), kept, "token")
	require.NoError(t, err)
	require.Empty(t, running)
	return operationPath("default", o.ID)
}

func TestAnOperationIsTakenOverFromAGatewayThatDied(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	s := quick(graveyard(t, operationsIn(t, devstack.Redis(t), lease)))
	at := s.died(t, 1)
	s.await(t, at, in(stateInterrupted))
	s.run(t)
	require.Equal(t, 6, s.await(t, at, in(stateDone)).Redriven)
}

func TestAnOperationThatTakesItsGatewaysDownIsGivenUp(t *testing.T) {
	t.Parallel()
	s := quick(graveyard(t, operationsIn(t, devstack.Redis(t), 100*time.Millisecond)))
	at := s.died(t, maxStarts)
	s.await(t, at, in(stateInterrupted))
	s.run(t)
	o := s.await(t, at, in(stateFailed))
	require.Contains(t, *o.Error, "have died at it")
	require.Len(t, s.left(), 6)
}

func (g *fakeGraves) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

func TestAnOperationWaitsForWhatIsAway(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.run(t)
	s.graves.fail(messages.ErrBrokerUnavailable)
	at := s.begin(t, "/v1/queues/default/redrive?all=true")
	o := s.await(t, at, func(o operation) bool { return o.Error != nil })
	require.Equal(t, stateRunning, o.State)
	s.graves.fail(nil)
	require.Nil(t, s.await(t, at, in(stateDone)).Error)
}

func TestAnOperationFailsInTheEnd(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.operationTimes.giveUp = time.Millisecond
	s.run(t)
	s.graves.fail(ErrPassing)
	o := s.await(t, s.begin(t, "/v1/queues/default/redrive?all=true"), in(stateFailed))
	require.Equal(t, ErrPassing.Error(), *o.Error)
	s.graves.fail(errors.New("secret"))
	o = s.await(t, s.begin(t, "/v1/queues/default/redrive?all=true"), in(stateFailed))
	require.NotContains(t, *o.Error, "secret")
	require.Len(t, s.left(), 6)
}

// What a pass has left counts once, however many passes there are.
func TestAnOperationOfManyPassesCountsRight(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.operationTimes.pass = 60 * time.Millisecond
	s.store.put(&messages.Result{TaskID: "a0", State: messages.Started})
	s.run(t)
	o := s.await(t, s.begin(t, "/v1/queues/default/redrive?name=sleep_task&rate=20"), in(stateDone))
	require.Equal(t, Counts{Matched: 5, Redriven: 4, Running: 1}, o.Counts)
	require.Equal(t, 6, o.Looked)
	require.Equal(t, []string{"a0", "c0"}, s.left())
	require.Equal(t, []string{"a1", "a2", "b0", "b1"}, s.sentIDs())
}

// Otherwise what fails at once would be sent again for ever.
func TestAnOperationLeavesLettersThatCameLater(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.publisher.after = func(m *messages.Message) { // within a pass, which holds the letters
		again := *m
		messages.EncodeDeadLetter(&again, messages.DeadLetter{Reason: messages.ReasonPermanent, LastTime: time.Now(), Run: 1})
		s.graves.letters = append(s.graves.letters, &again)
	}
	s.run(t)
	all := s.left()
	o := s.await(t, s.begin(t, "/v1/queues/default/redrive?all=true"), in(stateDone))
	require.Equal(t, Counts{Matched: 6, Redriven: 6}, o.Counts)
	require.Equal(t, all, s.left())
}

func TestAGatewayWorksOnABoundedNumberOfOperations(t *testing.T) {
	t.Parallel()
	s := operator(t)
	s.operating = make(slots, 1)
	s.run(t)
	at := s.begin(t, "/v1/queues/default/redrive?all=true&rate=1")
	requireProblem(t, s.ask(t, post, "/v1/queues/mail/redrive?all=true", "", preferAsync), http.StatusServiceUnavailable, slugOverloaded)
	s.ask(t, post, at+"/cancel", "")
	s.await(t, at, in(stateCancelled))
	require.Eventually(t, func() bool {
		return s.ask(t, post, "/v1/queues/mail/redrive?all=true", "", preferAsync).Code == http.StatusAccepted
	}, patience, 5*time.Millisecond)
}

func TestOperationsNeedRedis(t *testing.T) {
	t.Parallel()
	s := graveyard(t, operationsIn(t, "redis://127.0.0.1:1", time.Minute))
	const queue = "/v1/queues/default"
	for _, call := range [][2]string{{post, queue + "/redrive?all=true"}, {get, queue + "/operations"}, {get, queue + "/operations/x"}, {post, queue + "/operations/x/cancel"}} {
		requireProblem(t, s.ask(t, call[0], call[1], "", preferAsync), http.StatusServiceUnavailable, "store-unavailable")
	}
	require.Empty(t, s.operating, "nothing is held for what did not begin")
	w := s.ask(t, post, queue+"/redrive?all=true&dry_run=true", "", preferAsync)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	requireProblem(t, s.ask(t, post, "/v1/queues/lovage.dead/redrive?all=true", "", preferAsync), http.StatusNotFound, slugNotFound)
	requireProblem(t, s.ask(t, post, queue+"/redrive", "", preferAsync), http.StatusUnprocessableEntity, slugParameters)
	require.Len(t, s.left(), 6)
}
