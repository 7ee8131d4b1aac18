//go:build openstack

package openstack_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/provider/openstack"
)

// TestEverythingThatATemplateSays asks the openstack command whether a server has
// all of it.
func TestEverythingThatATemplateSays(t *testing.T) {
	s := startSite(t, "prvwhole")
	made := func(kind string, args ...string) string {
		t.Helper()
		var out struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		}
		s.client(t, &out, append(append(strings.Fields(kind), "create"), args...)...)
		name := args[len(args)-1]
		t.Cleanup(func() {
			if _, err := s.Client(step(t), lab.Member, append(append(strings.Fields(kind), "delete"), name)...); err != nil {
				t.Error(err)
			}
		})
		return out.ID
	}
	key := filepath.Join(t.TempDir(), "key")
	made("keypair", "--private-key", key, "prvwhole-key")
	group := made("server group", "--policy", "soft-anti-affinity", "prvwhole-group")
	made("security group", "prvwhole-sg")
	made("network", "prvwhole-back")
	made("subnet", "--network", "prvwhole-back", "--subnet-range", "10.78.0.0/24", "prvwhole-back4")
	boot := filepath.Join(t.TempDir(), "boot.sh")
	if err := os.WriteFile(boot, []byte("#!/bin/sh\necho {{.Name}} {{.Number}} {{.Group}} {{.ID}} {{.MAC}} {{.Address}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	no := false
	p := s.provider(t, s.cloud, func(t *openstack.Template) {
		t.KeyPair, t.ServerGroup, t.UserData, t.ConfigDrive, t.AvailabilityZone = "prvwhole-key", "prvwhole-group", boot, true, "nova"
		t.SecurityGroups = []string{"prvwhole-sg", "default"}
		t.Networks = append(t.Networks, openstack.Interface{Subnet: "prvwhole-back4", PortSecurity: &no})
	})
	if warnings, err := p.Check(step(t)); err != nil || len(warnings) != 0 {
		t.Errorf("Check() = %q, %v", warnings, err)
	}
	vm, ref, err := s.create(t, p, 1)
	if err != nil {
		t.Fatal(err)
	}
	var has struct {
		Key       string              `json:"key_name"`
		Drive     any                 `json:"config_drive"`
		Groups    []map[string]string `json:"security_groups"`
		Addresses map[string][]string `json:"addresses"`
		Metadata  map[string]string   `json:"properties"`
		Spread    []string            `json:"server_groups"`
		Tags      []string            `json:"tags"`
	}
	s.client(t, &has, "--os-compute-api-version", "2.72", "server", "show", vm.UUID)
	if has.Key != "prvwhole-key" || (has.Drive != "True" && has.Drive != true) || !slices.Equal(has.Spread, []string{group}) {
		t.Errorf("%+v", has)
	}
	var groups []string
	for _, g := range has.Groups {
		groups = append(groups, g["name"])
	}
	slices.Sort(groups)
	if diff := cmp.Diff([]string{"default", "prvwhole-sg"}, slices.Compact(groups)); diff != "" {
		t.Errorf("security groups: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"role": "web", "scalehook-id": ref.ID}, has.Metadata); diff != "" {
		t.Errorf("metadata: -want +got\n%s", diff)
	}
	if m, ok := cloud.ParseMark(has.Tags); !ok || m != (cloud.Mark{Owner: "prvwhole", Group: "web", ID: ref.ID, UUID: vm.UUID}) {
		t.Errorf("tags %q", has.Tags)
	}
	front, back := has.Addresses["prvwhole-net"], has.Addresses["prvwhole-back"]
	if len(vm.Addresses) != 2 || len(front) != 1 || len(back) != 1 || vm.Addresses[0].String() != front[0] || vm.Addresses[1].String() != back[0] {
		t.Errorf("addresses %v, and the command says %v", vm.Addresses, has.Addresses)
	}
	var data string
	var secret struct {
		UserData string `json:"OS-EXT-SRV-ATTR:user_data"`
	}
	admin := s.OpenStack(t, lab.Admin, "--os-compute-api-version", "2.72", "server", "show", vm.UUID)
	decode(t, admin, &secret)
	if raw, err := base64.StdEncoding.DecodeString(secret.UserData); err == nil {
		data = string(raw)
	}
	if want := "echo prvwhole-1 1 web " + ref.ID + " fa:16:3e:"; !strings.Contains(data, want) || !strings.HasSuffix(data, " "+front[0]+"\n") {
		t.Errorf("user data %q does not have %q and its address", data, want)
	}
	if err := p.Delete(step(t), ref); err != nil {
		t.Error(err)
	}
	if left := slices.DeleteFunc(s.left(t), func(what string) bool {
		return strings.HasPrefix(what, "key pair") || strings.HasPrefix(what, "server group") || strings.HasPrefix(what, "security group")
	}); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
