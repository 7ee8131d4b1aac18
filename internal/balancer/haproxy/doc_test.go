package haproxy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/balancer/haproxy"
	"github.com/scalehook/scalehook/internal/testenv"
)

// blocks returns the fenced blocks of a section of the documentation.
func blocks(t *testing.T, section string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "balancers", "haproxy.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(raw), "\n## "+section+"\n")
	if !found {
		t.Fatalf("haproxy.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var out []string
	fenced := false
	for line := range strings.Lines(text) {
		switch fence := strings.HasPrefix(line, "```"); {
		case fence && !fenced:
			out, fenced = append(out, ""), true
		case fence:
			fenced = false
		case fenced:
			out[len(out)-1] += line
		}
	}
	return out
}

// TestTheExampleForAVM: HAProxy takes the file of the page as it stands there, its
// sockets are bound to the tenant address, and scalehook takes them as addresses.
func TestTheExampleForAVM(t *testing.T) {
	testenv.Need(t, testenv.Program("haproxy"))
	all := blocks(t, "HAProxy in a VM")
	if len(all) != 3 || !strings.HasPrefix(all[0], "global\n") || !strings.Contains(all[1], "sockets:") {
		t.Fatalf("the section has %d blocks: %q", len(all), all)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(all[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testenv.Path(t, "haproxy"), "-W", "-S", "10.61.0.4:9998", "-c", "-f", file)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "[WARNING]") || strings.Contains(string(out), "[ALERT]") {
		t.Errorf("haproxy -c: %v: %s", err, out)
	}
	if !strings.Contains(all[0], "stats socket ipv4@10.61.0.4:9999 level admin\n") || strings.Contains(all[0], "socket *") {
		t.Errorf("the runtime socket is not bound to the tenant address:\n%s", all[0])
	}
	if !strings.Contains(all[2], "--dst-port 9998:9999 --remote-ip 203.0.113.1/32 ") {
		t.Errorf("no rule keeps the sockets to one address:\n%s", all[2])
	}
	cfg := haproxy.Config{Sockets: []haproxy.Socket{{Address: "203.0.113.40:9999", MasterSocket: "203.0.113.40:9998"}}}
	if err := cfg.Validate(); err != nil || !strings.Contains(all[1], `{address: "203.0.113.40:9999", master_socket: "203.0.113.40:9998"}`) {
		t.Errorf("the sockets of the page, %v:\n%s", err, all[1])
	}
}
