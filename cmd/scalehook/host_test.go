package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// hostScript runs in a network of its own, with folders of its own where the
// program writes to. It ends a reboot's way: with nothing of ours in the kernel and
// the command that the unit has.
const hostScript = `set -eu
for d in /run /var/lib /etc/sysctl.d /etc/systemd/system; do mount -t tmpfs none $d; done
ip link set lo up
ip link add br-ex type bridge; ip link set br-ex up; ip addr add 10.20.20.1/24 dev br-ex
ip link add ens33 type veth peer name other; ip link set ens33 up; ip addr add 192.0.2.1/24 dev ens33
ip route add default via 192.0.2.2
iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER
echo 0 > /proc/sys/net/ipv4/ip_forward
state() { nft -s list ruleset; cat /proc/sys/net/ipv4/ip_forward; }
before=$(state)

"$1" host apply --dry-run
test "$(state)" = "$before"
"$1" host apply --persist
"$1" host show
applied=$(state)

nft delete table ip scalehook_nat
iptables-nft -F DOCKER-USER
test "$(state)" != "$applied"
command=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/scalehook-host.service)
echo "unit: $command"
eval "$command"
test "$(state)" = "$applied"
grep -q '^net.ipv4.ip_forward = 1$' /etc/sysctl.d/60-scalehook-host.conf

"$1" host remove
test "$(state)" = "$before"
test -z "$(find /var/lib /etc/sysctl.d /etc/systemd/system -mindepth 1 -not -type d)"
"$1" host show -o json
`

func TestHostIsAppliedKeptAndTakenBack(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Program("nft"), testenv.Program("iptables-nft"), testenv.Program("ip"), testenv.Program("unshare"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// The test binary is scalehook where it is called so.
	program := filepath.Join(dir, "scalehook")
	if err := os.Link(self, program); err != nil {
		text, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Path(t, "unshare"), "--net", "--mount", "--propagation", "private", "sh", "-c", hostScript, "sh", program)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"would be done: set net.ipv4.ip_forward to 1 (it was 0)\n",
		"done: nft: masquerade 10.20.20.0/24 from br-ex to ens33 in the table ip scalehook_nat\n",
		"done: iptables-nft: accept 10.20.20.0/24 from br-ex to ens33 and the answers to it in DOCKER-USER",
		"ip filter FORWARD (iptables-nft)  passes\n",
		`unit: "` + program + `" "host" "apply" "--bridge" "br-ex" "--network" "10.20.20.0/24"` + "\n",
		"done: set net.ipv4.ip_forward to 0, as it was\n",
		`"in_force": false`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
