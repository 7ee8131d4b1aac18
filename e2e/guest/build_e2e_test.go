//go:build e2e

package guest_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
)

func TestImagesAreBuiltOnceAndThenCached(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	keys := map[string]bool{}
	for _, opts := range []guest.BuildOptions{{}, {Agent: true}} {
		first, err := guest.Build(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(first.Path)
		if err != nil {
			t.Fatal(err)
		}
		second, err := guest.Build(ctx, opts)
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
		keys[first.Key] = true
		t.Logf("%+v: %s: %d bytes, kernel %s", opts, first.Path, before.Size(), first.Kernel)
	}
	if len(keys) != 2 {
		t.Error("the image with the agent is the one without")
	}
}
