//go:build openstack

package openstack_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/testenv"
)

// command runs a subcommand that asks the running server, to its end.
func (s *site) command(args ...string) string {
	s.t.Helper()
	return s.scalehook(append(args, "--url", "http://"+s.address, "--token-file", s.tokens.Operator)...)
}

// plan asks for the plan and checks with the client that nothing was made.
func (s *site) plan() {
	s.t.Helper()
	if out := s.scalehook("provision", s.provisionFile(), "--dry-run"); !strings.Contains(out, "not done: this is what would be") || !strings.Contains(out, "vm-test") {
		s.t.Errorf("provision --dry-run: %s", out)
	}
	if now := s.state(); len(now.servers)+len(now.floating)+len(now.ports)+len(now.images) > 0 {
		s.t.Errorf("--dry-run made something: %+v", now)
	}
	for line := range strings.Lines(s.scalehook("doctor", "--provision", s.path("provision.yml"))) {
		if strings.HasPrefix(line, "WRONG") {
			s.t.Errorf("doctor: %s", line)
		}
	}
}

// left are things that a test has put into the project.
type left struct{ port, address string }

// plant makes a port and a floating IP with the real client, with these tags and this
// description.
func (s *site) plant(description string, tags ...string) (l left) {
	s.t.Helper()
	var made struct {
		ID      string `json:"id"`
		Address string `json:"floating_ip_address"`
	}
	var flags []string
	for _, tag := range tags {
		flags = append(flags, "--tag", tag)
	}
	s.client(&made, append([]string{"port", "create", "--network", "lab-net", "--description", description, "planted"}, flags...)...)
	l.port = made.ID
	s.client(&made, append([]string{"floating", "ip", "create", "--description", description, lab.External}, flags...)...)
	l.address = made.Address
	return l
}

// has reports what is there of it, as the client says.
func (s *site) has(l left) (hasPort, hasAddress bool) {
	s.t.Helper()
	var ports []port
	var addresses []floating
	s.client(&ports, "port", "list")
	s.client(&addresses, "floating", "ip", "list")
	return slices.ContainsFunc(ports, func(p port) bool { return p.ID == l.port }),
		slices.ContainsFunc(addresses, func(f floating) bool { return f.Address == l.address })
}

// names reports whether the word stands in the text as a whole: 203.0.113.19 is not
// in 203.0.113.194.
func names(text, word string) bool {
	return slices.Contains(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == ',' }), word)
}

// cleansUp has what an unknown instance of ours left behind removed by "scalehook
// cleanup", and what provisioning left by "scalehook provision --cleanup": each lists
// first. What is somebody else's stays.
func (s *site) cleansUp() {
	s.t.Helper()
	t := s.t
	const lost = "7c9d9a52-5d0f-4a7e-9b7e-6f1c55d0a001"
	instance := s.plant("made by scalehook for "+s.name+" "+lost, cloud.Tags(cloud.Owner(s.name), "web", lost)...)
	provisioned := s.plant("made by scalehook for "+s.name+" "+s.name, "scalehook-owner="+s.name, "scalehook-provision="+s.name)
	theirs := s.plant("by hand", "a-tag-of-theirs")
	is := func(step string, l left, want bool) {
		t.Helper()
		if port, address := s.has(l); port != want || address != want {
			t.Errorf("%s: port %s there: %t, floating IP %s there: %t; want both %t", step, l.port, port, l.address, address, want)
		}
	}

	var listed string
	testenv.Eventually(t, limit, "scalehook cleanup lists the instance's parts as quarantined", func() error {
		listed = s.command("cleanup")
		if !names(listed, "quarantined") || !names(listed, instance.port) || !names(listed, instance.address) {
			return fmt.Errorf("it says: %s", listed)
		}
		return nil
	})
	for _, other := range []string{provisioned.port, provisioned.address, theirs.port, theirs.address} {
		if names(listed, other) {
			t.Errorf("scalehook cleanup lists %s, which is no instance's: %s", other, listed)
		}
	}
	is("after scalehook cleanup", instance, true)
	t.Logf("cleanup --yes: %s", s.command("cleanup", "--yes"))
	testenv.Eventually(t, limit, "the instance's parts are gone", func() error {
		if port, address := s.has(instance); port || address {
			return fmt.Errorf("port there: %t, floating IP there: %t", port, address)
		}
		return nil
	})

	file := s.path("provision.yml")
	if out := s.scalehook("provision", file, "--cleanup"); !names(out, provisioned.address) || !strings.Contains(out, "not done: this is what would be") {
		t.Errorf("provision --cleanup: %s", out)
	}
	is("after provision --cleanup", provisioned, true)
	t.Logf("provision --cleanup --yes: %s", s.scalehook("provision", file, "--cleanup", "--yes"))
	is("after provision --cleanup --yes", provisioned, false)
	is("after provision --cleanup --yes", theirs, true)
	s.client(nil, "port", "delete", theirs.port)
	s.client(nil, "floating", "ip", "delete", theirs.address)
}

// saves has a snapshot made of every server of the group, by the command, and the
// oldest removed.
func (s *site) saves(before int) {
	s.t.Helper()
	out := s.scalehook("snapshot", s.path("provision.yml"), "--group", "web", "--keep", "2")
	if now := s.state(); len(now.images) != before+1 || !strings.Contains(out, "vm-test-clone-") {
		s.t.Errorf("%d snapshots, want %d; it said: %s", len(now.images), before+1, out)
	}
	if out, err := s.try("snapshot", s.path("provision.yml"), "--group", "web", "--remove", "--yes"); err == nil || !strings.Contains(out, "the scaling group web has servers (vm-test-clone)") {
		s.t.Errorf("the snapshots of a group that has servers: %v: %s", err, out)
	}
}

// forgets has the last snapshots of the group, which is gone, listed and removed.
func (s *site) forgets(t *testing.T) {
	t.Helper()
	var images []image
	s.client(&images, "image", "list", "--private")
	if len(images) == 0 {
		t.Error("no snapshot outlived the group")
	}
	out := s.scalehook("snapshot", s.path("provision.yml"), "--group", "web", "--remove")
	for _, one := range images {
		if !strings.Contains(out, one.Name) {
			t.Errorf("%s is not listed: %s", one.Name, out)
		}
	}
	count := len(images)
	if s.client(&images, "image", "list", "--private"); len(images) != count {
		t.Errorf("without --yes %d of %d snapshots are left", len(images), count)
	}
	t.Logf("snapshot --remove --yes: %s", s.scalehook("snapshot", s.path("provision.yml"), "--group", "web", "--remove", "--yes"))
	if s.client(&images, "image", "list", "--private"); len(images) > 0 {
		t.Errorf("left: %+v", images)
	}
}
