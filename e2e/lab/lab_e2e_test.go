//go:build e2e

package lab_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
)

func start(t *testing.T, opts lab.Options) *lab.Lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

func TestTwoClonesBootReportAndLeaveNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	img, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l := start(t, lab.Options{Name: "lab-two"})
	if _, err := l.UploadImage(ctx, "base.qcow2", img.Path); err != nil {
		t.Fatal(err)
	}
	before, err := l.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	names := []string{"web-1", "web-2"}
	for _, name := range names {
		if err := l.CreateVM(ctx, lab.VMSpec{Name: name, Base: "base.qcow2", InstanceID: "i-" + name}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		addr, err := l.AwaitHealthy(ctx, name)
		if err != nil {
			console, _ := os.ReadFile(l.ConsolePath(name))
			t.Fatalf("%v; console:\n%s", err, console)
		}
		t.Logf("%s healthy at %s after %s", name, addr, time.Since(began))
	}
	for _, name := range names {
		stopped := time.Now()
		if err := l.ShutdownVM(ctx, name); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s off after %s", name, time.Since(stopped))
		if err := l.RemoveVM(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := l.Collector().AwaitFinal(ctx, name); err != nil {
			t.Error(err)
		}
	}
	after, err := l.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
	for _, b := range l.Collector().Books() {
		t.Logf("%s (%s): received %v answered %v", b.Host, b.InstanceID, b.Received, b.Answered)
	}
}
