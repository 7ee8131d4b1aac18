//go:build openstack

package openstack_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/e2e/openstack/lab"
)

// runPage runs the commands of a page, of which some are replaced.
func runPage(t *testing.T, page string, session *exec.Cmd, replace ...string) {
	t.Helper()
	blocks := doc.Read(t, page)
	for k := range blocks {
		blocks[k].Text = strings.NewReplacer(replace...).Replace(blocks[k].Text)
	}
	r := doc.Runner{Command: session, Each: limit, Done: func(b doc.Block, since time.Time, output string) {
		t.Logf("line %d took %.1f s\n%s%s", b.Line, time.Since(since).Seconds(), b.Text, output)
	}}
	if err := r.Run(t.Context(), blocks); err != nil {
		t.Errorf("%s: %v", page, err)
	}
}

// TestTheClientsCommandsInPages runs those of the openstack client, as the project's
// user, beside what scalehook has made.
func TestTheClientsCommandsInPages(t *testing.T) {
	p := startProject(t, "clients", lab.Options{})
	p.provision("--no-snapshot")
	p.client(nil, "security", "group", "create", "sg-web")
	folder, err := filepath.Abs("../../deploy/openstack")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"../../docs/providers/openstack.md", "../../docs/balancers/haproxy.md"} {
		session := p.Namespace().Command(t.Context(), "bash", "-c", `cd "$0" && exec bash`, folder)
		session.Env = append(session.Env, "OS_CLIENT_CONFIG_FILE="+p.clouds, "OS_CLOUD="+lab.Member)
		runPage(t, page, session, "=OWNER", "="+p.name)
	}
	p.client(nil, "security", "group", "delete", "sg-haproxy", "sg-web")
	p.scalehook("provision", filepath.Join(p.dir, "provision.yml"), "--destroy")
}

// TestTheLabsPage runs the commands of docs/openstack-lab.md at the cloud that is up.
func TestTheLabsPage(t *testing.T) {
	cloud := lab.Start(t, lab.Options{Octavia: true})
	if cloud.State() != lab.DefaultState(lab.Fake) {
		t.Fatalf("the cloud is in %s", cloud.State())
	}
	session := exec.CommandContext(t.Context(), "bash")
	session.Dir = "../.."
	t.Cleanup(func() {
		for _, args := range [][]string{{"server", "delete", "--wait", "web"}, {"network", "delete", "net1"}} {
			if _, err := cloud.Client(context.Background(), lab.Member, args...); err != nil {
				t.Error(err)
			}
		}
	})
	runPage(t, "../../docs/openstack-lab.md", session)
}
