package main

import (
	"os"
	"path/filepath"
	"syscall"
)

// ownLikeFolder gives a file to the owner of its folder, so that a run as root
// leaves nothing in the tree that the user cannot remove.
func ownLikeFolder(file string) error {
	st, err := os.Stat(filepath.Dir(file))
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(file, int(sys.Uid), int(sys.Gid))
}
