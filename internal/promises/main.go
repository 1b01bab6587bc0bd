// Command promises checks that the table of promises in the README names tests
// that exist.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: promises README.md")
		os.Exit(2)
	}
	n, err := verify(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s:\n%v\n", os.Args[1], err)
		os.Exit(1)
	}
	fmt.Printf("The promises in %s name %d tests, and all of them exist.\n", os.Args[1], n)
}

// verify checks a README against the tests in and below its directory.
func verify(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	have, err := tests(filepath.Dir(path))
	if err != nil {
		return 0, err
	}
	return check(string(text), have)
}
