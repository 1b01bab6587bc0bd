// Command service stands in for gateway and worker in the tests of devstack: it
// answers what devstack asks, and one task goes through the states of a real one.
package main

import (
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
)

func main() {
	fmt.Println("listening on", os.Getenv("LOVAGE_LISTEN"))
	var asked atomic.Int32
	answers := map[string]string{
		"GET /readyz":               `{"status":"ok","rabbitmq":"up","redis":"up"}`,
		"GET /v1/catalog":           `{"tasks":[{"name":"sleep_task","alive":1}]}`,
		"GET /env":                  os.Getenv("LOVAGE_AMQP_URL") + " " + os.Getenv("LOVAGE_REDIS_URL") + " " + os.Getenv("LOVAGE_DRAIN"),
		"POST /v1/tasks/sleep_task": "{\n \"task_id\": \"t1\", \"state\": \"PENDING\"\n}",
	}
	for route, answer := range answers {
		http.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusAccepted)
			}
			_, _ = fmt.Fprint(w, answer)
		})
	}
	states := []string{
		`{"task_id":"t1","state":"PENDING","progress":null,"result":null}`,
		`{"task_id":"t1","state":"PROGRESS","progress":{"current":1,"total":3,"percent":33.3}}`,
		`{"task_id":"t1","state":"` + last() + `","result":{"slept":3},"error":null}`,
	}
	http.HandleFunc("GET /v1/tasks/t1", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, states[min(int(asked.Add(1)), len(states))-1])
	})
	fmt.Println(http.ListenAndServe(os.Getenv("LOVAGE_LISTEN"), nil)) //nolint:gosec // A stand-in.
	os.Exit(1)
}

func last() string {
	if s := os.Getenv("STAND_IN_LAST_STATE"); s != "" {
		return s
	}
	return "SUCCESS"
}
