//go:build e2e

// Package setup runs the set-up of a KVM host against a real libvirt, one of
// the lab's, so that the machine's own is left alone.
package setup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/testenv"
)

func TestKVMSetupAndUndoOnARealLibvirt(t *testing.T) {
	needs := []testenv.Requirement{testenv.Root, testenv.Program("virsh")}
	for _, program := range lab.Programs() {
		needs = append(needs, testenv.Program(program))
	}
	testenv.Need(t, needs...)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Name: "set-kvm"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})

	// Packages, users and services belong to the machine, not to the lab: the
	// set-up is told that they are as they should be.
	dir := t.TempDir()
	packages := "installed qemu-system-x86\ninstalled qemu-utils\ninstalled libvirt-daemon-system\n" +
		"installed libvirt-clients\ninstalled dnsmasq-base\ninstalled virtinst\ninstalled cloud-image-utils\n"
	stub := "#!/bin/sh\nprintf '" + strings.ReplaceAll(packages, "\n", `\n`) + "'\n"
	if err := os.WriteFile(filepath.Join(dir, "dpkg-query"), []byte(stub), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) string {
		t.Helper()
		command := exec.CommandContext(ctx, program, args...)
		command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin",
			"SCALEHOOK_SYSTEMD=/nonexistent", "SUDO_USER=", "LC_ALL=C")
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, output)
		}
		return string(output)
	}
	virsh := func(args ...string) string {
		t.Helper()
		return run("virsh", append([]string{"-q", "-c", l.URI()}, args...)...)
	}
	setup := func(args ...string) string {
		t.Helper()
		return run("../../deploy/kvm/setup", append([]string{"--connect", l.URI(), "--state", filepath.Join(dir, "state", "kvm")}, args...)...)
	}
	state := func() string {
		t.Helper()
		return virsh("net-list", "--all") + virsh("pool-list", "--all")
	}

	virsh("net-destroy", lab.NetworkName)
	virsh("net-undefine", lab.NetworkName)
	before := state()
	setup("--dry-run")
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Fatalf("--dry-run changed something (-before +after):\n%s", diff)
	}
	setup("--yes")
	for _, check := range [][]string{{"net-info", "default"}, {"pool-info", "default"}} {
		info := strings.Join(strings.Fields(virsh(check...)), " ")
		for _, want := range []string{"Persistent: yes", "Autostart: yes"} {
			if !strings.Contains(info, want) {
				t.Errorf("virsh %v lacks %q: %s", check, want, info)
			}
		}
		if !strings.Contains(info, "Active: yes") && !strings.Contains(info, "State: running") {
			t.Errorf("virsh %v: does not run: %s", check, info)
		}
	}
	if output := setup("--yes"); !strings.Contains(output, "Nothing to do") {
		t.Errorf("a second run had something to do:\n%s", output)
	}
	setup("--undo", "--yes")
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("--undo did not lead back (-before +after):\n%s", diff)
	}
}
