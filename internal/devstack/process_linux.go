package devstack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// StartTime returns when the process was started, as an opaque text that no
// other process with the same pid has. It returns os.ErrProcessDone when there
// is no such process, or only its zombie.
func StartTime(pid int) (string, error) {
	state, started, err := readStat("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	if state == "Z" || state == "X" {
		return "", os.ErrProcessDone
	}
	return started, nil
}

// frozen reports whether every thread of a process has stopped. They do so one
// by one, a moment after SIGSTOP was sent.
func frozen(pid int) bool {
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, thread := range threads {
		if state, _, err := readStat(thread); err == nil && state != "T" && state != "t" {
			return false
		}
	}
	return true
}

// readStat returns the state and the start time of a process or a thread.
func readStat(path string) (state, started string, err error) {
	stat, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return "", "", os.ErrProcessDone
	}
	if err != nil {
		return "", "", fmt.Errorf("look at process: %w", err)
	}
	// The program's name is in parentheses and may itself contain any of them.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const stateField, startField = 0, 19
	if len(fields) <= startField {
		return "", "", fmt.Errorf("look at process: %s has an unknown format", path)
	}
	return fields[stateField], fields[startField], nil
}
