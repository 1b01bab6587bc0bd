package devstack

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// StartTime returns when the process was started, as an opaque text that no
// other process with the same pid has. It returns os.ErrProcessDone when there
// is no such process, or only its zombie.
func StartTime(pid int) (string, error) {
	const zombie = 5
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || info.Proc.P_stat == zombie {
		return "", os.ErrProcessDone
	}
	return fmt.Sprintf("%d.%06d", info.Proc.P_starttime.Sec, info.Proc.P_starttime.Usec), nil
}

// frozen reports whether a process has stopped, a moment after SIGSTOP was sent.
func frozen(pid int) bool {
	const stopped = 4
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	return err == nil && info.Proc.P_stat == stopped
}
