package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/exporter"
)

func TestDoctorLooksForTheHypervisor(t *testing.T) {
	dir := t.TempDir()
	snap, dead := filepath.Join(dir, "snap.sock"), filepath.Join(dir, "dead.sock")
	l, err := net.Listen("unix", snap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := exporter.Socket{Path: filepath.Join(dir, "missing.sock")}
	for _, tt := range []struct {
		name   string
		places exporter.Sockets
		ok     bool
		says   string
	}{
		{"the first socket that is there is named", exporter.Sockets{nowhere, {Path: snap}, {Path: dead}}, true, "finds libvirt at " + snap},
		{"a socket that nobody listens at is told with what would be right", exporter.Sockets{nowhere, {Path: dead}}, false, dead + " cannot be used"},
		{"a machine without a hypervisor is not at fault", exporter.Sockets{nowhere}, true, "rules/guests.yml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := hypervisor(t.Context(), tt.places)
			if got.OK != tt.ok || !strings.Contains(got.Detail, tt.says) {
				t.Errorf("%+v, want OK %t and %q", got, tt.ok, tt.says)
			}
		})
	}
}
