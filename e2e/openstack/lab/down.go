package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Down ends every process of the cloud and waits until they are gone, 30 seconds
// at most; with wipe it removes the state folder too, so that the next cloud there
// is a new one. It may be called at any time, on a cloud that is half up as well.
func (c *Cloud) Down(ctx context.Context, wipe bool) error {
	if err := os.Remove(c.readyFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end the OpenStack of %s: %w", c.opts.State, err)
	}
	ours := c.d.ours() // while the holder lives, whose namespace tells
	var first, last []string
	for _, s := range c.services() {
		if s.base {
			last = append([]string{s.name}, last...)
		} else {
			first = append(first, s.name)
		}
	}
	errs := []error{c.d.terminate(ctx, 5*time.Second, first...)}
	if c.opts.Virt == QEMU {
		errs = append(errs, c.destroyGuests(ctx))
	}
	for _, name := range last {
		errs = append(errs, c.d.terminate(ctx, 20*time.Second, name))
	}
	errs = append(errs, c.sweep(ctx, ours))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end the OpenStack of %s: %w", c.opts.State, err)
	}
	if wipe {
		if err := os.RemoveAll(c.opts.State); err != nil {
			return fmt.Errorf("remove %s: %w", c.opts.State, err)
		}
	}
	return nil
}

// sweep kills what is left of the cloud: what was seen in its namespaces before,
// if it is still the same process, and what carries its mark.
func (c *Cloud) sweep(ctx context.Context, seen []process) error {
	gone := func() error {
		left := map[process]bool{}
		for _, p := range append(seen, c.d.ours()...) {
			if stat, err := readStat(p.pid); err == nil && stat.start == p.start && stat.state != "Z" {
				left[p] = true
			}
		}
		if len(left) == 0 {
			return nil
		}
		var pids []string
		for p := range left {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
			pids = append(pids, strconv.Itoa(p.pid))
		}
		return fmt.Errorf("processes that do not go: %s", strings.Join(pids, ", "))
	}
	return poll(ctx, 10*time.Second, gone)
}
