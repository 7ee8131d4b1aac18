package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/testenv"
)

// loginServer starts an sshd of its own on loopback, with keys that are thrown away,
// which lets in who runs the test and gives the environment. It returns the
// configuration of a client that calls it "hypervisor".
func loginServer(t *testing.T, env ...string) (config string) {
	t.Helper()
	testenv.Need(t, testenv.Program("sshd"), testenv.Program("ssh"), testenv.Program("ssh-keygen"))
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"host", "id"} {
		if out, err := exec.CommandContext(t.Context(), testenv.Path(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", path(name)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	hostKey, err := os.ReadFile(path("host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	address := testenv.FreeAddress(t)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"known": "hypervisor " + string(hostKey),
		"sshd_config": strings.Join([]string{
			"ListenAddress " + address, "HostKey " + path("host"), "PidFile none", "UseDNS no", "UsePAM no", "StrictModes no",
			"AuthorizedKeysFile " + path("id.pub"), "AuthenticationMethods publickey", "PermitRootLogin prohibit-password", "AllowUsers " + self.Username,
			"PrintMotd no", "PrintLastLog no", "AcceptEnv LANG LC_*", "SetEnv " + strings.Join(env, " "), "",
		}, "\n"),
		"config": strings.Join([]string{
			"Host hypervisor", "HostName " + host, "Port " + port, "HostKeyAlias hypervisor", "User " + self.Username,
			"IdentityFile " + path("id"), "IdentitiesOnly yes", "BatchMode yes", "UserKnownHostsFile " + path("known"), "GlobalKnownHostsFile none",
			"StrictHostKeyChecking yes", "SendEnv LANG LC_*", "",
		}, "\n"),
	} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := exec.Command(testenv.Path(t, "sshd"), "-D", "-e", "-f", path("sshd_config"))
	if os.Geteuid() == 0 {
		// The machine's books of logins are none of a test's business, and root's sshd
		// wants a folder in /run.
		testenv.Need(t, testenv.Program("unshare"))
		server = exec.Command(testenv.Path(t, "unshare"), append([]string{
			"--mount", "--propagation=private", "sh", "-ec",
			`for d in /run /var/log; do mount -t tmpfs tmpfs "$d"; done; mkdir -m 755 /run/sshd; exec "$@"`, "sh",
		}, server.Args...)...)
	}
	testenv.Start(t, server, testenv.Listening(address))
	return path("config")
}

// TestTopOverSSH looks at the dashboard from afar, in a terminal of 80×24.
func TestTopOverSSH(t *testing.T) {
	t.Parallel()
	testenv.Need(t, testenv.Program("tmux"))
	w := newWatched(t)
	w.serve(t)
	config := loginServer(t, w.env()...)

	p := newPane(t)
	// --yellow is set, too, so that what idles is yellow.
	p.run(fmt.Sprintf("clear; ssh -F %s -tt hypervisor %s top --yellow 1%%; echo code-$?", config, testenv.Path(t, "scalehook")))
	whole := func(width, height int) {
		t.Helper()
		testenv.Eventually(t, patience, fmt.Sprintf("a whole frame of %d×%d", width, height), func() error {
			screen := p.screen(false)
			lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
			if len(lines) != height || !strings.HasPrefix(lines[0], "scalehook top · http://") || !strings.HasPrefix(lines[height-1], "+ ") {
				return fmt.Errorf("%d lines:\n%s", len(lines), screen)
			}
			for _, line := range lines {
				if n := len([]rune(line)); n > width {
					return fmt.Errorf("a line of %d:\n%s", n, screen)
				}
			}
			return nil
		})
	}
	p.await("the page", `^▸ api +1 +1 1-3 .*Stable`, `^  web +1 +1 1-3 `, `^  api-1 +in_service .*ready up`, `q quit$`)
	whole(80, 24)
	p.painted(yellow, `^  api-1 .* ([0-9]% ▼)`)
	p.painted(red, `^  web .* (100% ▲)`)
	p.keys("Down")
	p.await("the group web", `^── web `, `^  web-1 +in_service`)

	p.tmux("resize-window", "-x", "60", "-y", "20")
	p.await("the keys of a narrow terminal", `h hand over  Tab / filter  \? q$`)
	whole(60, 20)
	p.tmux("resize-window", "-x", "80", "-y", "24")
	p.await("the keys of a wide one", `q quit$`)
	whole(80, 24)

	p.keys("q")
	p.await("its end", `^code-0$`, `^shell> *$`)
	p.clean()
}
