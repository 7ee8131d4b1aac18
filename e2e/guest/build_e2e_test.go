//go:build e2e

package guest_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
)

func TestImageIsBuiltOnceAndThenCached(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	first, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(second.Path)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("second build gave %+v (%s), want the cached %+v (%s)", second, after.ModTime(), first, before.ModTime())
	}
	t.Logf("%s: %d bytes, kernel %s", first.Path, before.Size(), first.Kernel)
}
