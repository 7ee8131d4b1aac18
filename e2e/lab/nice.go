package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startNice gives the VMs' threads their niceness as they appear: libvirt
// starts QEMU at its own, and libvirtd belongs to the control chain.
func (l *Lab) startNice() {
	l.stopNice = KeepNice(l.ns.pid(), l.opts.GuestNice, l.opts.GuestNice-l.opts.ControlNice)
}

// KeepNice gives VMs a niceness, and their sessions one, as they appear among the
// children of a process 1, until the function that it returns is called.
func KeepNice(init, nice, session int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done := map[int]bool{}
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, pid := range guestProcesses(init) {
				if !done[pid] {
					done[pid] = renice(pid, nice, session)
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// guestProcesses are the QEMU processes that process 1 of the lab has adopted.
func guestProcesses(init int) []int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", init, init))
	if err != nil {
		return nil
	}
	var out []int
	for f := range strings.FieldsSeq(string(raw)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil && strings.HasPrefix(string(comm), "qemu-system") {
			out = append(out, pid)
		}
	}
	return out
}

// renice sets the niceness of every thread; new ones inherit it. Where the
// kernel groups processes by session, niceness counts only within one, and the
// VM's session as a whole has to step back behind that of the control chain.
func renice(pid, nice, session int) bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		return false
	}
	ok := true
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			continue
		}
		ok = unix.Setpriority(unix.PRIO_PROCESS, tid, nice) == nil && ok
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(min(session, 19))), 0)
	return ok
}
