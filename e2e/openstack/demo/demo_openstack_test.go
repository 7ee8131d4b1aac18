//go:build openstack

package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/scalehook/scalehook/internal/testenv"
)

// TestTheDemo is the seed's scenario, and the bare floating IP, on real guests with
// real traffic, as `make demo-openstack` runs them.
func TestTheDemo(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Program("go"), testenv.Program("openstack"), testenv.Program("qemu-system-x86_64"), testenv.Program("dnsmasq"))
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "libvirt_dlopen", "-o", bin+"/", "./cmd/...")
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	err := run(t.Context(), options{
		scenario: "all", report: filepath.Join(t.TempDir(), "report.json"), bin: bin, state: "/var/lib/scalehook-openstack-demo-test", handover: 3,
	})
	if err != nil {
		t.Error(err)
	}
}
