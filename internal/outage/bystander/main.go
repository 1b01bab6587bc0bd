// Command bystander answers every request at once and depends on nothing: how
// long that takes is how busy the machine is, at the very moment at which
// another program is measured.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it has no context: it is killed
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "{\"msg\":\"bystander listens\",\"address\":%q}\n", l.Addr())
	srv := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("{}"))
		}),
	}
	return srv.Serve(l)
}
