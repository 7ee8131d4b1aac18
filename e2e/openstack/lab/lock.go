package lab

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockFile says who uses the machine's OpenStack: those who only use it share the
// lock, who starts, stops or disturbs it has it alone.
const lockFile = "/run/lock/scalehook-openstack"

// lock waits for the lock, 15 minutes at most. Closing the file gives it back.
func lock(ctx context.Context, alone bool) (*os.File, error) {
	file, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock OpenStack: %w", err)
	}
	how, who := unix.LOCK_SH, "has it to itself"
	if alone {
		how, who = unix.LOCK_EX, "uses it"
	}
	err = poll(ctx, 15*time.Minute, func() error {
		if err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB); err != nil {
			return fmt.Errorf("lock OpenStack: somebody else %s (see fuser %s): %w", who, lockFile, err)
		}
		return nil
	})
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
