package procfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TreeCPU returns the processor time that a process and all that descend from it
// have used so far, those that have ended among them.
func TreeCPU(pid int) (sum time.Duration, err error) {
	all, err := tree(pid)
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		sum += p.used
	}
	return sum, nil
}

// TreeMemory returns the memory in RAM, in bytes, of a process and all that
// descend from it. What several share is counted once.
func TreeMemory(pid int) (sum int64, err error) {
	all, err := tree(pid)
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		rollup, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/smaps_rollup")
		if err != nil {
			continue // it has ended since
		}
		n, err := parseKB(rollup, "Pss:")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// Tree returns a process and all that descend from it.
func Tree(pid int) (pids []int, err error) {
	all, err := tree(pid)
	for _, p := range all {
		pids = append(pids, p.pid)
	}
	return pids, err
}

// process is what counts of one that runs.
type process struct {
	pid, parent int
	used        time.Duration
}

func tree(root int) ([]process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("look at processes: %w", err)
	}
	var all []process
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("look at processes: %w", err)
		}
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended since
		}
		p, err := parseProcess(pid, stat)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	found := descendants(root, all)
	if len(found) == 0 {
		return nil, fmt.Errorf("look at process %d: %w", root, os.ErrProcessDone)
	}
	return found, nil
}

func parseProcess(pid int, stat []byte) (process, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const parentField, user, childrenSystem = 1, 11, 14
	if len(fields) <= childrenSystem {
		return process{}, fmt.Errorf("look at process %d: %d fields are too few", pid, len(fields))
	}
	parent, err := strconv.Atoi(fields[parentField])
	if err != nil {
		return process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	used, err := sum(fields[user : childrenSystem+1])
	return process{pid, parent, used}, err
}

// descendants returns a process and all below it.
func descendants(root int, all []process) (found []process) {
	members := []int{root}
	for i := 0; i < len(members); i++ {
		for _, p := range all {
			if p.pid == members[i] {
				found = append(found, p)
			}
			if p.parent == members[i] && !slices.Contains(members, p.pid) {
				members = append(members, p.pid)
			}
		}
	}
	return found
}
