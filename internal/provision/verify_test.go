package provision

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/scalehook/scalehook/internal/testenv"
)

// guest is an ssh server that answers commands by a table.
type guest struct {
	t      *testing.T
	key    ssh.Signer
	login  ssh.PublicKey
	answer func(command string) (out string, status uint32)
	l      net.Listener
	done   sync.WaitGroup
}

func startGuest(t *testing.T, login ssh.PublicKey, answer func(string) (string, uint32)) *guest {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, key: key, login: login, answer: answer, l: l}
	g.done.Go(g.serve)
	t.Cleanup(func() { l.Close(); g.done.Wait() })
	return g
}

func (g *guest) serve() {
	for {
		raw, err := g.l.Accept()
		if err != nil {
			return
		}
		g.done.Go(func() { g.talk(raw) })
	}
}

func (g *guest) talk(raw net.Conn) {
	defer raw.Close()
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "cirros" || authorized(key) != authorized(g.login) {
			return nil, errors.New("refused")
		}
		return nil, nil
	}}
	config.AddHostKey(g.key)
	conn, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		return
	}
	defer conn.Close()
	g.done.Go(func() { ssh.DiscardRequests(requests) })
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				continue
			}
			_ = r.Reply(true, nil)
			out, status := g.answer(string(r.Payload[4:]))
			_, _ = io.WriteString(channel, out)
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			_ = channel.Close()
		}
	}
}

// verified runs verify against a whole world whose server is the guest.
func verified(t *testing.T, g *guest, change func(*File, *World), service http.Handler, console string) []Check {
	t.Helper()
	f, w := planCase{}.file(t), planCase{From: "whole"}.world(t)
	w.KeyFile = readKeyFile(filepath.Join(t.TempDir(), "none"))
	change(f, w)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var web string
	if service != nil {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: service, ReadHeaderTimeout: time.Second}
		var done sync.WaitGroup
		done.Go(func() { _ = server.Serve(l) })
		t.Cleanup(func() { server.Close(); done.Wait() })
		web = l.Addr().String()
	}
	v := &verifier{p: &Provisioner{file: f}, w: w, console: func(context.Context, string) (string, error) { return console, nil }}
	v.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		to := ""
		switch {
		case strings.HasSuffix(address, ":22") && g != nil:
			to = g.l.Addr().String()
		case strings.HasSuffix(address, ":8080"):
			to = web
		}
		if to == "" {
			return nil, errors.New("connection refused")
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	checks, err := v.run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

// lab gives the file a key that was made, and the cloud its public half.
func labKey(t *testing.T) (path string, public ssh.PublicKey) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "lab-key")
	if err := makeKeyFile(path, "c"); err != nil {
		t.Fatal(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(readKeyFile(path).Public))
	if err != nil {
		t.Fatal(err)
	}
	return path, public
}

func withKey(path string) func(*File, *World) {
	return func(f *File, w *World) {
		f.Key.PrivateKey = path
		w.KeyFile = readKeyFile(path)
		w.Keys[0].Public = w.KeyFile.Public + " scalehook:scalehook:lab:demo"
		f.Verify.Outbound = []string{"1.1.1.1", "google.com"}
	}
}

func summary(checks []Check) []string {
	var out []string
	for _, c := range checks {
		state := "OK"
		if !c.OK {
			state = "WRONG"
		}
		out = append(out, state+" "+c.What)
	}
	return out
}

func TestVerifyLooksFromOutsideAndFromInside(t *testing.T) {
	path, public := labKey(t)
	g := startGuest(t, public, func(command string) (string, uint32) {
		if strings.Contains(command, "google.com") && strings.HasPrefix(command, "ping") {
			return "3 packets transmitted, 0 packets received, 100% packet loss\n", 1
		}
		return "first\n3 packets transmitted, 3 packets received, 0% packet loss\n", 0
	})
	console := "boot\n-----BEGIN SSH HOST KEY KEYS-----\n" + authorized(g.key.PublicKey()) + " root@cirros\n-----END SSH HOST KEY KEYS-----\n"
	asked := ""
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.URL.Path; fmt.Fprint(w, "hello") })
	checks := verified(t, g, func(f *File, w *World) { withKey(path)(f, w); f.Service.Path = "/health" }, service, console)
	want := []string{
		"OK server test-vm", "OK floating IP", "OK service at 10.20.20.77:8080", "OK login by ssh",
		"OK from inside: ping 1.1.1.1", "OK from inside: resolve google.com", "WRONG from inside: ping google.com",
	}
	if diff := cmp.Diff(want, summary(checks)); diff != "" {
		t.Fatalf("(-want +got):\n%s\n%+v", diff, checks)
	}
	if asked != "/health" || !strings.Contains(checks[3].Detail, "the guest's key is the one on its console") || !strings.Contains(checks[6].Detail, "100% packet loss") {
		t.Errorf("asked %q; %+v", asked, checks)
	}
	if !Failed(checks) {
		t.Error("a failed check is a failure")
	}
}

func TestVerifyRefusesAGuestWithAnotherKeyThanOnItsConsole(t *testing.T) {
	path, public := labKey(t)
	g := startGuest(t, public, func(string) (string, uint32) { return "", 0 })
	_, other := labKey(t)
	console := "-----BEGIN SSH HOST KEY KEYS-----\n" + authorized(other) + " root@cirros\n-----END SSH HOST KEY KEYS-----\n"
	checks := verified(t, g, func(f *File, w *World) { withKey(path)(f, w); f.Service = nil }, nil, console)
	last := checks[len(checks)-1]
	if last.OK || last.What != "login by ssh" || !strings.Contains(last.Detail, "something else answers at") {
		t.Errorf("got %+v", checks)
	}
}

func TestVerifyLogsInWhereTheConsoleHasNoKeysAndSaysSo(t *testing.T) {
	path, public := labKey(t)
	g := startGuest(t, public, func(string) (string, uint32) { return "ok", 0 })
	checks := verified(t, g, func(f *File, w *World) { withKey(path)(f, w); f.Service = nil }, nil, "")
	if Failed(checks) || !strings.Contains(checks[2].Detail, "was not checked") {
		t.Errorf("got %+v", checks)
	}
}

func TestVerifySaysWhatIsWrongWithTheWayIn(t *testing.T) {
	path, _ := labKey(t)
	checks := verified(t, nil, withKey(path), nil, "")
	want := []string{"OK server test-vm", "OK floating IP", "WRONG service at 10.20.20.77:8080", "WRONG login by ssh"}
	if diff := cmp.Diff(want, summary(checks)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	checks = verified(t, nil, func(f *File, w *World) { withKey(path)(f, w); w.Servers[0].Status = "SHUTOFF" }, nil, "")
	if want := []string{"WRONG server test-vm"}; !cmp.Equal(want, summary(checks)) {
		t.Errorf("a server that is off: %q", summary(checks))
	}
	checks = verified(t, nil, func(f *File, w *World) { withKey(path)(f, w); w.Servers, w.FloatingIPs = nil, nil }, nil, "")
	if want := []string{"WRONG server test-vm"}; !cmp.Equal(want, summary(checks)) {
		t.Errorf("no server: %q", summary(checks))
	}
}

func TestVerifyReadsTheReportOfTheFirstBoot(t *testing.T) {
	path, _ := labKey(t)
	report := func(f *File, w *World) { withKey(path)(f, w); f.Service, f.Server.Report = nil, true }
	console := "boot\r\nscalehook-report: ping 1.1.1.1 ok\r\nscalehook-report: resolve google.com failed\r\nscalehook-report: end\r\nlogin:"
	want := []string{
		"OK server test-vm", "OK floating IP", "OK from inside, at the first boot: ping 1.1.1.1",
		"WRONG from inside, at the first boot: resolve google.com", "WRONG from inside, at the first boot: ping google.com",
	}
	if diff := cmp.Diff(want, summary(verified(t, nil, report, nil, console))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	checks := verified(t, nil, report, nil, "boot")
	if checks[2].OK || !strings.Contains(checks[2].Detail, "has not said everything") {
		t.Errorf("a guest that says nothing: %+v", checks)
	}
}

// TestTheReportIsAScriptThatASmallShellRuns runs it with a ping of the test's own.
func TestTheReportIsAScriptThatASmallShellRuns(t *testing.T) {
	testenv.Need(t, testenv.Program("sh"))
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ping": "#!/bin/sh\nexit 0\n", "nslookup": "#!/bin/sh\nexit 1\n", "getent": "#!/bin/sh\nexit 0\n", "sleep": "#!/bin/sh\nexit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	console := filepath.Join(dir, "console")
	script := strings.ReplaceAll(reportScript([]string{"1.1.1.1", "google.com"}), ">/dev/console", ">>"+console) + "wait\n"
	cmd := exec.CommandContext(t.Context(), testenv.Path(t, "sh"), "-c", script)
	cmd.Env = []string{"PATH=" + dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(console)
	if err != nil {
		t.Fatal(err)
	}
	got, complete := parseReport(string(text))
	want := map[string]bool{"ping 1.1.1.1": true, "resolve google.com": true, "ping google.com": true}
	if diff := cmp.Diff(want, got); diff != "" || !complete {
		t.Errorf("complete %v (-want +got):\n%s", complete, diff)
	}
}
