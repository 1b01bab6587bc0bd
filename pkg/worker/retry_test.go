package worker

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// What is retried and what is not, by the kind of the error.
func TestKindsOfErrorsDecideOverTheRetry(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("read: %w", io.EOF)
	custom := fmt.Errorf("call: %w", &customError{code: 3})
	panics := func() error { panic("boom") }
	for name, test := range map[string]struct {
		err  func() error
		opts []HandleOption
		want messages.State
	}{
		"no kinds":                        {fails(wrapped), nil, messages.Retry},
		"retried by value":                {fails(wrapped), []HandleOption{WithRetryOn(Is(io.EOF))}, messages.Retry},
		"not among the values":            {fails(custom), []HandleOption{WithRetryOn(Is(io.EOF))}, messages.Failure},
		"retried by type":                 {fails(custom), []HandleOption{WithRetryOn(Is(io.EOF), As[*customError]())}, messages.Retry},
		"options add up":                  {fails(custom), []HandleOption{WithRetryOn(Is(io.EOF)), WithRetryOn(As[*customError]())}, messages.Retry},
		"given up by value":               {fails(wrapped), []HandleOption{WithGiveUpOn(Is(io.EOF))}, messages.Failure},
		"given up by type":                {fails(custom), []HandleOption{WithGiveUpOn(As[*customError]())}, messages.Failure},
		"not among those to give up on":   {fails(custom), []HandleOption{WithGiveUpOn(Is(io.EOF))}, messages.Retry},
		"giving up wins":                  {fails(wrapped), []HandleOption{WithRetryOn(Is(io.EOF)), WithGiveUpOn(Is(io.EOF))}, messages.Failure},
		"Permanent wins":                  {fails(Permanent(wrapped)), []HandleOption{WithRetryOn(Is(io.EOF))}, messages.Failure},
		"RetryAfter wins":                 {fails(RetryAfter(time.Second, wrapped)), []HandleOption{WithGiveUpOn(Is(io.EOF))}, messages.Retry},
		"a panic":                         {panics, nil, messages.Retry},
		"a panic is not among the values": {panics, []HandleOption{WithRetryOn(Is(io.EOF))}, messages.Failure},
		"a panic is retried":              {panics, []HandleOption{WithRetryOn(As[*PanicError]())}, messages.Retry},
		"a panic is given up":             {panics, []HandleOption{WithGiveUpOn(As[*PanicError]())}, messages.Failure},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := failing(test.err, test.opts...).RunAttempt(t.Context(), &messages.Task{ID: "i", Name: "t"}, nil)
			require.Equal(t, test.want, o.State)
			if o.State == messages.Failure {
				require.Equal(t, messages.ReasonPermanent, o.Reason)
			}
		})
	}
}

func TestKindsThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	for _, opt := range []HandleOption{WithRetryOn(), WithGiveUpOn(), WithRetryOn(ErrorKind{}), WithGiveUpOn(Is(io.EOF), ErrorKind{})} {
		require.Panics(t, func() { failing(fails(errors.New("boom")), opt) })
	}
}
