package delivery_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// flaw is something that is wrong on purpose, for the test of the test.
type flaw string

const (
	flawless              flaw = ""
	confirmsWhatIsNotSent flaw = "the publisher confirms what it has not sent"
	acksTooEarly          flaw = "deliveries are acked as they come"
	settlesWithoutToken   flaw = "anybody settles"
	runsWhatHasEnded      flaw = "what has ended may be claimed once more"
)

// bend is what makes a store that does not keep its promises.
func (h storeHook) bend(cmds []redis.Cmder, answered bool) {
	w := h.worker.world
	for _, cmd := range cmds {
		cmd, ok := cmd.(*redis.Cmd)
		if !ok || cmd.Err() != nil {
			continue
		}
		script := w.scripts[cmd.Args()[1].(string)]
		for n, part := range parts(cmd.Args()) {
			switch {
			case w.flaw == settlesWithoutToken && script == "settle" && !answered:
				id := strings.TrimPrefix(part.key, messages.ResultKey(""))
				part.args[2] = w.books.taskField(id, "owner")
			case w.flaw == runsWhatHasEnded && script == "claim" && answered:
				attempt := fmt.Sprint(part.key, part.args[0], part.args[1])
				answers := cmd.Val().([]any)
				if answer := answers[n].([]any); answer[0] == "FINAL" && !w.again[attempt] {
					w.again[attempt] = true // once: who is always told so never ends
					answers[n] = []any{"RUN", int64(1), int64(0), "", ""}
				}
			}
		}
	}
}

// What the model is worth: it finds what is wrong on purpose.
func TestTheModelFindsFlaws(t *testing.T) {
	t.Parallel()
	scripts := scriptNames(t)
	for _, f := range []flaw{confirmsWhatIsNotSent, acksTooEarly, settlesWithoutToken, runsWhatHasEnded} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			first := uint64(rand.Uint32())
			for try := range uint64(500) { // the rarest takes ten or so
				if b := play(t, first+try, f, scripts, zap.NewNop()); len(b.wrong) > 0 {
					t.Logf("%d tries: %s", try+1, b.wrong[0])
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
