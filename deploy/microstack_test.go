package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/firstboot"
	"github.com/scalehook/scalehook/internal/provision"
	"github.com/scalehook/scalehook/internal/testenv"
)

// ofTheSnap are files that only a host with MicroStack has.
var ofTheSnap = regexp.MustCompile(`(?m)^ *ca_file: .*\n`)

// microstack lays out the folder with an rc file of the test's.
func microstack(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	rc := write(t, filepath.Join(dir, "microstack.rc"), []byte("export OS_AUTH_URL=https://127.0.0.1:5000/v3\nexport OS_USERNAME=admin\nexport OS_PASSWORD=secret\nexport OS_PROJECT_NAME=admin\nexport OS_USER_DOMAIN_NAME=default\nexport OS_PROJECT_DOMAIN_NAME=default\n"))
	for _, name := range []string{"provision.yml", "scalehook.yml", "responder.sh"} {
		text := ofTheSnap.ReplaceAll(read(t, "microstack/"+name), nil)
		write(t, filepath.Join(dir, name), bytes.ReplaceAll(text, []byte("/var/snap/microstack/common/etc/microstack.rc"), []byte(rc)))
	}
	return dir
}

func TestMicroStacksFilesAreValidAndFitTogether(t *testing.T) {
	testenv.Need(t, testenv.Program("haproxy"))
	dir := microstack(t)
	if _, err := config.Load(filepath.Join(dir, "scalehook.yml")); err != nil {
		t.Error(err)
	}
	file, err := provision.Load(filepath.Join(dir, "provision.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, "haproxy", "-c", "-f", "microstack/haproxy.cfg"); strings.Contains(out, "[WARNING]") {
		t.Errorf("with warnings:\n%s", out)
	}
	haproxy := string(read(t, "microstack/haproxy.cfg"))

	var s struct {
		Owner     string
		Balancers struct {
			Edge struct {
				HAProxy struct {
					Sockets []struct{ Address string }
				}
			}
		}
		Groups struct {
			Web struct {
				Mode, High, Low, Name string
				Min, Max, Port        int
				Adopt                 []string
				Template              struct {
					Flavor, Image   string
					Networks        []string
					SecurityGroups  []string `yaml:"security_groups"`
					KeyPair         string   `yaml:"key_pair"`
					UserData        string   `yaml:"user_data"`
					MemberAddress   string   `yaml:"member_address"`
					FloatingNetwork string   `yaml:"floating_network"`
				}
				Pool struct{ Backend string }
			}
		}
	}
	if err := yaml.Unmarshal(read(t, "microstack/scalehook.yml"), &s); err != nil {
		t.Fatal(err)
	}
	g := s.Groups.Web
	for what, pair := range map[string][2]string{
		"the owner":              {s.Owner, file.Owner},
		"the baseline":           {fmt.Sprint(g.Adopt), "[" + file.Server.Name + "]"},
		"the flavor":             {g.Template.Flavor, file.Server.Flavor},
		"the image":              {g.Template.Image, file.Server.Image},
		"the network":            {fmt.Sprint(g.Template.Networks), "[" + file.Network.Name + "]"},
		"the security group":     {fmt.Sprint(g.Template.SecurityGroups), "[" + file.SecurityGroup.Name + "]"},
		"the key pair":           {g.Template.KeyPair, file.Key.Name},
		"the user data":          {g.Template.UserData, file.Server.UserData},
		"the external network":   {g.Template.FloatingNetwork, file.FloatingIP.Network},
		"the service's port":     {strconv.Itoa(g.Port), strconv.Itoa(int(file.Service.Port))},
		"the responder's port":   {strconv.Itoa(g.Port), one(t, string(read(t, "microstack/responder.sh")), `port=\$\{RESPONDER_PORT:-(\d+)\}`)},
		"the backend":            {g.Pool.Backend, one(t, haproxy, `^backend (\S+)`)},
		"HAProxy's socket":       {s.Balancers.Edge.HAProxy.Sockets[0].Address, one(t, haproxy, `^ *stats socket (\S+)`)},
		"the seed's thresholds":  {g.High + " " + g.Low, "60% 20%"},
		"the seed's bounds":      {fmt.Sprint(g.Min, g.Max), "1 2"},
		"the seed's names":       {file.Server.Name + " " + g.Name, "vm-test vm-test-clone"},
		"the members' addresses": {g.Template.MemberAddress, "floating"},
		"the mode to begin with": {g.Mode, "observe"},
	} {
		if pair[0] != pair[1] || pair[0] == "" {
			t.Errorf("%s: %q here, %q there", what, pair[0], pair[1])
		}
	}
	kind := firstboot.KindOf(string(read(t, "microstack/responder.sh")))
	if warning := firstboot.Mismatch(firstboot.Image{Name: g.Template.Image}, kind); warning != "" {
		t.Error(warning)
	}
	// The group's user data is a template, the first server's is not.
	if strings.Contains(string(read(t, "microstack/responder.sh")), "{{") {
		t.Error("responder.sh is a template")
	}
}

func TestMicroStacksREADMENamesEveryCommandInOrder(t *testing.T) {
	readme := string(read(t, "microstack/README.md"))
	at := 0
	for _, command := range []string{
		"snap install microstack", "scalehook doctor --provision", "scalehook host apply --persist", "scalehook provision provision.yml\n", "scalehook verify provision.yml",
		"scalehook-exporter", "scalehook rules", "scalehook check-config", "scalehook serve", "scalehook provision provision.yml --destroy", "scalehook host remove",
	} {
		next := strings.Index(readme[at:], command)
		if next < 0 {
			t.Errorf("README has no %q after what comes before it", command)
			continue
		}
		at += next
	}
	for _, found := range regexp.MustCompile(`\]\((\.\./[^)#]*)`).FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join("microstack", found[1])); err != nil {
			t.Errorf("README links to %s: %v", found[1], err)
		}
	}
}

// TestTheResponderAnswersManyAtOnce runs it with nothing but busybox's programs, as in
// CirrOS.
func TestTheResponderAnswersManyAtOnce(t *testing.T) {
	testenv.Need(t, testenv.Program("busybox"))
	busybox := testenv.Path(t, "busybox")
	bin, dir := t.TempDir(), t.TempDir()
	for _, applet := range []string{"sh", "nc", "hostname", "cat", "mkdir", "chmod", "grep", "printf", "sleep"} {
		if err := os.Symlink(busybox, filepath.Join(bin, applet)); err != nil {
			t.Fatal(err)
		}
	}
	address := testenv.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), busybox, "sh", "microstack/responder.sh")
	cmd.Env = []string{"PATH=" + bin, "RESPONDER_PORT=" + port, "RESPONDER_DIR=" + filepath.Join(dir, "responder")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testenv.Eventually(t, 10*time.Second, "the responder to listen", testenv.Listening(address))
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ = strings.Cut(name, ".")

	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var wait sync.WaitGroup
	failed := make(chan error, 500)
	for range 20 {
		wait.Go(func() {
			for range 25 {
				failed <- ask(t.Context(), client, "http://"+address+"/", name+"\n")
			}
		})
	}
	wait.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			t.Error(err)
		}
	}
}

func ask(ctx context.Context, client *http.Client, url, want string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || string(body) != want) {
		err = fmt.Errorf("%d %q, want %q", response.StatusCode, body, want)
	}
	return err
}
