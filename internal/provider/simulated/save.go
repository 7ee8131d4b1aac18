package simulated

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const fileName = "world.json"

// restore reads the World from its directory, if it was saved there.
func (w *World) restore() (bool, error) {
	if w.cfg.Directory == "" {
		return false, nil
	}
	if err := os.MkdirAll(w.cfg.Directory, 0o700); err != nil {
		return false, fmt.Errorf("simulated world: %w", err)
	}
	content, err := os.ReadFile(filepath.Join(w.cfg.Directory, fileName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("simulated world: %w", err)
	}
	if err := json.Unmarshal(content, &w.s); err != nil {
		return false, fmt.Errorf("simulated world: %s: %w", filepath.Join(w.cfg.Directory, fileName), err)
	}
	return true, nil
}

// save replaces the saved World. A process that is killed leaves the old one or
// the new one. The caller holds the lock.
func (w *World) save() error {
	if w.cfg.Directory == "" {
		return nil
	}
	content, err := json.Marshal(w.s)
	if err != nil {
		return fmt.Errorf("save the simulated world: %w", err)
	}
	path := filepath.Join(w.cfg.Directory, fileName)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return fmt.Errorf("save the simulated world: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save the simulated world: %w", err)
	}
	return nil
}
