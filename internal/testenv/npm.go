package testenv

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Modules returns the folder node_modules with what the package-lock.json in dir
// names, fetched by npm. It is made once and stays in the folder cache.
func Modules(ctx context.Context, t testing.TB, dir, cache string) string {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if cache, err = filepath.Abs(cache); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(cache, fmt.Sprintf("modules-%x", sha256.Sum256(lock))[:len("modules-")+16])
	if _, err := os.Stat(made); err == nil {
		return filepath.Join(made, "node_modules")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // the tree's owner reads it, too
		t.Fatal(err)
	}
	// Renamed when it is complete: another run may be at it too.
	making, err := os.MkdirTemp(cache, "modules.")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(making) }() // it is a cache
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(making, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	//nolint:gosec // what is started is npm
	npm := exec.CommandContext(ctx, Path(t, "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = making
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.Rename(making, made); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return filepath.Join(made, "node_modules")
}
