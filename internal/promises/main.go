// Command promises checks that the tables of documents that say which test keeps
// what, as that of the promises in the README, name tests that exist.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: promises FILE.md ...")
		os.Exit(2)
	}
	have, err := tests(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	failed := false
	for _, path := range os.Args[1:] {
		n, err := verify(path, have)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s:\n%v\n", path, err)
			failed = true
			continue
		}
		fmt.Printf("The table in %s names %d tests, and all of them exist.\n", path, n)
	}
	if failed {
		os.Exit(1)
	}
}

// verify checks a document against the tests that there are.
func verify(path string, have map[string][]string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return check(string(text), have)
}
