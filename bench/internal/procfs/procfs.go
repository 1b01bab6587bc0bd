// Package procfs reads what Linux knows about a process.
package procfs

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ, which is 100 on every platform
// that Go runs on.
const tick = 10 * time.Millisecond

// CPU returns the processor time that a process has used so far, in its own
// code and in the kernel, in steps of 10 ms.
func CPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read cpu time: %w", err)
	}
	return parseCPU(stat)
}

func parseCPU(stat []byte) (time.Duration, error) {
	// The program's name is in parentheses and may itself contain any of them.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, fmt.Errorf("read cpu time: %d fields are too few", len(fields))
	}
	return sum(fields[user : system+1])
}

// Machine returns the processor time that everything on this machine has used so
// far, interrupts and what the host has taken away among it.
func Machine() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read cpu time of machine: %w", err)
	}
	return parseMachine(stat)
}

func parseMachine(stat []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	const idle, wait, steal = 4, 5, 8 // what comes after is counted elsewhere
	if len(fields) <= steal {
		return 0, fmt.Errorf("read cpu time of machine: %d fields are too few", len(fields))
	}
	var used []string
	for i, field := range fields[:steal+1] {
		if i > 0 && i != idle && i != wait {
			used = append(used, field)
		}
	}
	return sum(used)
}

// sum adds times in ticks.
func sum(fields []string) (time.Duration, error) {
	var ticks int64
	for _, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read cpu time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// RSS returns the memory of a process that is in RAM, in bytes.
func RSS(pid int) (int64, error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	return parseRSS(status)
}

func parseRSS(status []byte) (int64, error) { return parseKB(status, "VmRSS:") }

// parseKB returns in bytes what a line gives in kB.
func parseKB(status []byte, name string) (int64, error) {
	for line := range strings.Lines(string(status)) {
		value, found := strings.CutPrefix(line, name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read memory: %w", err)
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("read memory: there is no %s", name)
}
