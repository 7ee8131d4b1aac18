//go:build faultpoints

package fault

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Enabled says whether the binary has fault points.
const Enabled = true

// Point passes the point of that name, which may end the process or never return.
func Point(name string) {
	current().pass(name)
	if name == hung() {
		select {}
	}
}

// hung is the point from which nobody returns.
var hung = sync.OnceValue(func() string { return os.Getenv("SCALEHOOK_FAULT_HANG") })

// Step says that something was journalled: from here on a point that was passed
// before is a new passing.
func Step() {
	p := current()
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.since)
}

// current is state of the whole process, as its end is.
var current = sync.OnceValue(func() *points {
	p, err := newPoints(os.Getenv("SCALEHOOK_FAULT"), os.Getenv("SCALEHOOK_FAULT_LOG"), func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing is done past the point while the signal is on its way
	})
	if err != nil {
		panic(err)
	}
	return p
})

// points counts passings.
type points struct {
	mu     sync.Mutex
	name   string // where to end; empty: nowhere
	number int
	end    func()
	log    *os.File
	passed map[string]int
	since  map[string]bool // passed since the last step
}

func newPoints(spec, log string, end func()) (*points, error) {
	p := &points{end: end, passed: map[string]int{}, since: map[string]bool{}}
	if spec != "" {
		k := strings.LastIndex(spec, ":")
		n, err := strconv.Atoi(spec[k+1:])
		if k < 1 || err != nil || n < 1 {
			return nil, fmt.Errorf("SCALEHOOK_FAULT=%q: must be like provider.create.before:1", spec)
		}
		p.name, p.number = spec[:k], n
	}
	if log != "" {
		f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("SCALEHOOK_FAULT_LOG: %w", err)
		}
		p.log = f
	}
	return p, nil
}

func (p *points) pass(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since[name] {
		return
	}
	p.since[name] = true
	p.passed[name]++
	if p.log != nil {
		if _, err := fmt.Fprintf(p.log, "%s\t%d\t%d\n", name, p.passed[name], time.Now().UnixMilli()); err != nil {
			panic(fmt.Errorf("SCALEHOOK_FAULT_LOG: %w", err))
		}
	}
	if name == p.name && p.passed[name] == p.number {
		p.end() // with the lock held: nobody else passes a point any more
	}
}
