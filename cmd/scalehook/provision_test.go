package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/provision/provisiontest"
)

// invoke runs a command line and returns its exit code and what it printed.
func invoke(args ...string) (code int, stdout, stderr string) {
	var out, log bytes.Buffer
	code = execute(context.Background(), args, os.Getenv, &out, &log)
	return code, out.String(), log.String()
}

// usedCloud has four snapshots of the file lab and three of the group web, and a
// floating IP that nothing uses: one made for the file, one of somebody else's.
func usedCloud(t *testing.T) *provisiontest.Cloud {
	t.Helper()
	c := provisiontest.New(t)
	for i, name := range []string{"a", "b", "c", "d"} {
		c.AddSnapshot(name, i+1, provisiontest.OfFile())
	}
	for i, name := range []string{"web-1-a", "web-1-b", "web-1-c"} {
		c.AddSnapshot(name, i+1, provisiontest.OfGroup("web"))
	}
	c.Add("floatingips", provisiontest.Object{
		"id": "fip-ours", "floating_ip_address": "10.20.20.78", "floating_network_id": "net-ext", "project_id": provisiontest.Project,
		"description": "made by scalehook for scalehook lab", "name": "ours",
	})
	c.Add("floatingips", provisiontest.Object{
		"id": "fip-theirs", "floating_ip_address": "10.20.20.79", "floating_network_id": "net-ext", "project_id": provisiontest.Project, "name": "theirs",
	})
	return c
}

const snapshots = "snapshot: {keep: 3}\n"

func TestProvisionRemovesOnlyWhatItIsToldTo(t *testing.T) {
	for _, tt := range []struct {
		name, more, args string
		code             int
		calls            []string // that change something
		says             []string
	}{
		{
			"--dry-run changes nothing", "snapshot: {keep: 2}\n", "--dry-run", exitOK, nil,
			[]string{"change  snapshot", "remove the old snapshot b (id-b)", "not done: this is what would be"},
		},
		{
			"without --dry-run the old snapshots go", "snapshot: {keep: 2}\n", "", exitOK,
			[]string{"DELETE images/id-b", "DELETE images/id-a"},
			[]string{"done in 2 steps"},
		},
		{
			"--keep goes before what the file says", snapshots, "--keep 1", exitOK,
			[]string{"DELETE images/id-c", "DELETE images/id-b", "DELETE images/id-a"},
			[]string{"done in 3 steps"},
		},
		{"--keep of a file that asks for no snapshots is refused", "", "--keep 1", exitUsage, nil, []string{"lab.yml asks for no snapshots: add snapshot: {} to it"}},
		{"--no-snapshot touches none", snapshots, "--no-snapshot", exitOK, nil, []string{"nothing to do"}},
		{
			"--cleanup without --yes only lists", snapshots, "--cleanup", exitOK, nil,
			[]string{"remove  floating ip  10.20.20.78", "remove  snapshot     a ", "leave   floating ip  10.20.20.79", "leave   snapshot     web-1-a", "not done: this is what would be"},
		},
		{
			"--cleanup with --yes removes what it listed", snapshots, "--cleanup --yes", exitOK,
			[]string{"DELETE floatingips/fip-ours", "DELETE images/id-a"},
			[]string{"leave  floating ip  10.20.20.79", "done in 2 steps"},
		},
		{"--cleanup with --dry-run only lists", snapshots, "--cleanup --dry-run", exitOK, nil, []string{"not done"}},
		{
			"--cleanup with --keep", snapshots, "--cleanup --yes --keep 2", exitOK,
			[]string{"DELETE floatingips/fip-ours", "DELETE images/id-b", "DELETE images/id-a"},
			[]string{"done in 3 steps"},
		},
		{"--cleanup with --no-snapshot would forget what is to be kept", snapshots, "--cleanup --no-snapshot --yes", exitUsage, nil, []string{"--no-snapshot: only where a snapshot would be made"}},
		{"--cleanup with --keep of a file that asks for no snapshots", "", "--cleanup --keep 1 --yes", exitUsage, nil, []string{"asks for no snapshots"}},
		{"--destroy with --no-snapshot", snapshots, "--destroy --no-snapshot", exitUsage, nil, []string{"not with --cleanup or --destroy"}},
		{"--destroy with --keep", snapshots, "--destroy --keep 2", exitUsage, nil, []string{"--keep: not with --destroy"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := usedCloud(t)
			code, stdout, stderr := invoke(append([]string{"provision", c.File(t, tt.more)}, strings.Fields(tt.args)...)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff(tt.calls, c.Calls()); diff != "" {
				t.Errorf("what it changed (-want +got):\n%s", diff)
			}
			for _, want := range tt.says {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("it does not say %q:\n%s%s", want, stdout, stderr)
				}
			}
		})
	}
}

// TestNoMoreSnapshotsAreLostThanTheFileSays is the fault of old: --no-snapshot beside
// --cleanup fell back to three, whatever snapshot.keep was.
func TestNoMoreSnapshotsAreLostThanTheFileSays(t *testing.T) {
	c := provisiontest.New(t)
	for i := range 10 {
		c.AddSnapshot(string(rune('a'+i)), i+1, provisiontest.OfFile())
	}
	for _, args := range []string{"--cleanup --yes", "--cleanup --no-snapshot --yes", ""} {
		invoke(append([]string{"provision", c.File(t, "snapshot: {keep: 10}\n")}, strings.Fields(args)...)...)
		if got := c.Calls(); len(got) > 0 {
			t.Fatalf("provision %s: %v", args, got)
		}
	}
}

func TestSnapshotIsMadeOfTheServerOrOfAGroup(t *testing.T) {
	for _, tt := range []struct {
		name, more, args string
		code             int
		calls            []string
		left             int // of the file's and of the group's
		says             []string
	}{
		{"of the file's server, and the file's oldest go", snapshots, "", exitOK, []string{"snapshot of vm-1", "DELETE images/id-b", "DELETE images/id-a"}, 6, []string{"made     test-vm-2", "removed  a "}},
		{"--keep goes before what the file says", snapshots, "--keep 1", exitOK, []string{"snapshot of vm-1", "DELETE images/id-d", "DELETE images/id-c", "DELETE images/id-b", "DELETE images/id-a"}, 4, nil},
		{"three are kept where the file does not say", "", "", exitOK, []string{"snapshot of vm-1", "DELETE images/id-b", "DELETE images/id-a"}, 6, nil},
		{
			"of every server of a group, and the group's oldest go", snapshots, "--group web", exitOK,
			[]string{"snapshot of vm-2", "snapshot of vm-3", "DELETE images/id-web-1-b", "DELETE images/id-web-1-a"},
			7,
			[]string{"made     web-2-2", "made     web-3-2", "removed  web-1-a"},
		},
		{
			"what was just made of a group's servers is kept, however small --keep is", snapshots, "--group web --keep 1", exitOK,
			[]string{"snapshot of vm-2", "snapshot of vm-3", "DELETE images/id-web-1-c", "DELETE images/id-web-1-b", "DELETE images/id-web-1-a"},
			6, nil,
		},
		{"of a group that is not there, with the near name", snapshots, "--group wbe", exitFailed, nil, 7, []string{`did you mean "web"`}},
		{"--keep 0", snapshots, "--keep 0", exitUsage, nil, 7, []string{"--keep 0: must be at least 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := usedCloud(t)
			c.AddServer("vm-2", "web-2", "scalehook-owner=scalehook", "scalehook-group=web", "scalehook-id=i2")
			c.AddServer("vm-3", "web-3", "scalehook-owner=scalehook", "scalehook-group=web", "scalehook-id=i3")
			c.AddServer("vm-4", "api-1", "scalehook-owner=another", "scalehook-group=web", "scalehook-id=i4")
			code, stdout, stderr := invoke(append([]string{"snapshot", c.File(t, tt.more)}, strings.Fields(tt.args)...)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff(tt.calls, c.Calls()); diff != "" {
				t.Errorf("what it changed (-want +got):\n%s", diff)
			}
			if names := c.Names("images"); len(names)-1 != tt.left || !slices.Contains(names, "cirros") {
				t.Errorf("there are %q, want cirros and %d snapshots", names, tt.left)
			}
			for _, want := range tt.says {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("it does not say %q:\n%s%s", want, stdout, stderr)
				}
			}
		})
	}
}

func TestSnapshotsOfAGroupThatIsGoneAreListedThenRemoved(t *testing.T) {
	for _, tt := range []struct {
		name, args string
		spoil      func(*provisiontest.Cloud)
		code       int
		calls      []string
		says       []string
	}{
		{
			"without --yes they are only listed", "--group web --remove", nil, exitOK, nil,
			[]string{"remove snapshot web-1-c", "remove snapshot web-1-b", "remove snapshot web-1-a", "not done: this is what would be"},
		},
		{
			"with --yes they are removed, and nobody else's", "--group web --remove --yes", nil, exitOK,
			[]string{"DELETE images/id-web-1-c", "DELETE images/id-web-1-b", "DELETE images/id-web-1-a"},
			[]string{"done in 3 steps"},
		},
		{
			"all but the newest", "--group web --remove --keep 1 --yes", nil, exitOK,
			[]string{"DELETE images/id-web-1-b", "DELETE images/id-web-1-a"},
			[]string{"leave snapshot web-1-c id-web-1-c is kept by --keep"},
		},
		{
			"a group that has servers keeps them", "--group web --remove --yes",
			func(c *provisiontest.Cloud) {
				c.AddServer("vm-2", "web-2", "scalehook-owner=scalehook", "scalehook-group=web", "scalehook-id=i2")
			},
			exitFailed, nil,
			[]string{"the scaling group web has servers (web-2), and its snapshots go by snapshots_keep", "scalehook set-desired web 0"},
		},
		{
			"what is protected, in use or under way stays", "--group web --remove --yes",
			func(c *provisiontest.Cloud) {
				c.AddSnapshot("protected", 20, provisiontest.Object{"scalehook_group": "web", "protected": true})
				c.AddSnapshot("saving", 21, provisiontest.Object{"scalehook_group": "web", "status": "saving"})
				c.AddSnapshot("booted", 22, provisiontest.OfGroup("web"))
				c.AddServer("vm-9", "restored")
				c.Objects["servers"][1]["image"] = provisiontest.Object{"id": "id-booted"}
			},
			exitOK,
			[]string{"DELETE images/id-web-1-c", "DELETE images/id-web-1-b", "DELETE images/id-web-1-a"},
			[]string{"id-protected is protected: openstack image set --unprotect id-protected", "id-saving is still being made", "id-booted server restored was made of it"},
		},
		{
			"of other owners, of copies and of other projects none is removed", "--group web --remove --yes",
			func(c *provisiontest.Cloud) {
				for i := range c.Objects["images"] {
					c.Objects["images"][i]["scalehook_owner"] = "another"
				}
				c.AddSnapshot("copy", 20, provisiontest.Object{"scalehook_group": "web", "instance_uuid": "vm-7"})
				c.AddSnapshot("renamed", 21, provisiontest.Object{"scalehook_group": "web", "scalehook_name": "as-it-was"})
				c.AddSnapshot("elsewhere", 22, provisiontest.Object{"scalehook_group": "web", "owner": "other"})
			},
			exitOK, nil,
			[]string{"nothing to do"},
		},
		{"a name with a slip of the pen", "--group wbe --remove --yes", nil, exitOK, nil, []string{"there are snapshots of web, and none of a scaling group wbe", "nothing to do"}},
		{"--remove without a group", "--remove", nil, exitUsage, nil, []string{"--remove: only with --group"}},
		{"--yes without --remove", "--group web --yes", nil, exitUsage, nil, []string{"--yes: only with --remove"}},
		{"as JSON", "--group web --remove -o json", nil, exitOK, nil, []string{`"pending": true`, `"name": "web-1-a"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := usedCloud(t)
			if tt.spoil != nil {
				tt.spoil(c)
			}
			args := append([]string{"snapshot", c.File(t, snapshots)}, strings.Fields(tt.args)...)
			code, stdout, stderr := invoke(args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff(tt.calls, c.Calls()); diff != "" {
				t.Errorf("what it changed (-want +got):\n%s", diff)
			}
			said := strings.Join(strings.Fields(stdout+stderr), " ")
			for _, want := range tt.says {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q:\n%s%s", want, stdout, stderr)
				}
			}
			// A second time there is nothing left to do.
			if code == exitOK && len(tt.calls) > 0 {
				if code, stdout, _ := invoke(args...); code != exitOK || !strings.Contains(stdout, "nothing to do") {
					t.Errorf("again: exit code %d:\n%s", code, stdout)
				}
			}
		})
	}
}
