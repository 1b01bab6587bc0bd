package messages_test

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func ExampleEncode() {
	m, err := messages.Encode(&messages.Task{
		ID:     "0193490f-5d4b-7c3e-8a51-0a1b2c3d4e5f",
		Name:   "resize_image",
		Kwargs: json.RawMessage(`{"url": "https://example.org/a.png", "width": 200}`),
		Queue:  "images",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Headers["task"], m.Headers["kwargsrepr"])
	fmt.Println(string(m.Body))
	// Output:
	// resize_image {'url': 'https://example.org/a.png', 'width': 200}
	// [[], {"url": "https://example.org/a.png", "width": 200}, {"callbacks":null,"errbacks":null,"chain":null,"chord":null}]
}

func ExampleDecode() {
	// What add.delay(1, 2) of a Celery client amounts to.
	task, err := messages.Decode(&messages.Message{
		RoutingKey:  "celery",
		ContentType: "application/json",
		Headers:     map[string]any{"task": "proj.add", "id": "02c85e99", "timelimit": []any{int32(10), nil}},
		Body:        []byte(`[[1, 2], {}, null]`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	input, err := messages.Input(task.Args, task.Kwargs, []string{"x", "y"})
	fmt.Println(task.Name, task.Queue, task.TimeLimit, string(input), err)
	// Output: proj.add celery 10s {"x":1,"y":2} <nil>
}

func ExampleDecode_refused() {
	_, err := messages.Decode(&messages.Message{
		ContentType: "application/json",
		Headers:     map[string]any{"task": "proj.add", "id": "02c85e99"},
		Body:        []byte(`[[NaN], {}, null]`),
	})
	var refused *messages.DecodeError
	fmt.Println(errors.As(err, &refused), refused.ID)
	fmt.Println(err)
	// Output:
	// true 02c85e99
	// decode message: the body is not JSON: NaN is not JSON
}
