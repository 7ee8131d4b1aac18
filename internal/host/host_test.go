package host

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGuestsReachTheWorldAsTheirHostAndTheHostGetsBackWhatItWas(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	before := n.ruleset(t)
	n.mustNotPass(t)

	report := n.mustApply(t, n.config())
	want := Way{Bridge: "br-ex", Network: netip.MustParsePrefix("10.20.20.0/24"), Uplink: "ens33"}
	if diff := cmp.Diff(want, report.Way, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if len(report.Done) != 2 || len(report.Warnings) != 0 {
		t.Errorf("%+v", report)
	}
	n.mustPass(t)
	if s := n.show(t); !s.InForce || s.Persistent || len(s.Problems) != 0 {
		t.Error(asJSON(s))
	}

	once := n.exact(t)
	if report := n.mustApply(t, n.config()); len(report.Done) != 0 {
		t.Errorf("the second time: %v", report.Done)
	}
	if diff := cmp.Diff(once, n.exact(t)); diff != "" {
		t.Errorf("the second time changed: %s", diff)
	}

	n.mustRemove(t)
	if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
	if files := n.files(t); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
	n.mustNotPass(t)
	if report := n.mustRemove(t); len(report.Done) != 0 {
		t.Errorf("the second time: %v", report.Done)
	}
}

func TestForwardingThatWasOnStaysOn(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, "echo 1 > /proc/sys/net/ipv4/ip_forward")
	before := n.ruleset(t)
	n.mustApply(t, n.config())
	n.mustRemove(t)
	if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
}

func TestInterfacesGetBackTheirOwnSwitches(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, "echo 1 > /proc/sys/net/ipv4/conf/br-ex/forwarding; echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects")
	before := n.ruleset(t)
	n.mustApply(t, n.config())
	n.mustRemove(t)
	if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
}

func TestForwardingStaysOnForWhoCameMeanwhile(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.mustApply(t, n.config())
	n.host.sh(t, "iptables-nft -N DOCKER; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER")
	report := n.mustRemove(t)
	if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "Docker came to this host meanwhile and needs it: sysctl -w net.ipv4.ip_forward=0") {
		t.Errorf("%+v", report)
	}
	if got := n.host.sh(t, "cat /proc/sys/net/ipv4/ip_forward"); got != "1\n" {
		t.Errorf("ip_forward is %s", got)
	}
}

func TestARunThatWasKilledIsFinishedOrTakenBack(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	before := n.ruleset(t)
	// The state is written, forwarding is on, the rest is not.
	n.mustApply(t, n.config())
	n.host.sh(t, "nft delete table ip scalehook_nat")
	if s := n.show(t); s.InForce || s.Masquerades {
		t.Error(asJSON(s))
	}
	n.mustApply(t, n.config())
	n.mustPass(t)
	n.host.sh(t, "nft delete table ip scalehook_nat")
	n.mustRemove(t)
	if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
}

func TestATableThatSomebodyChangedIsMadeAnew(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.mustApply(t, n.config())
	once := n.ruleset(t)
	n.host.sh(t, "nft add rule ip scalehook_nat postrouting oifname lo masquerade")
	n.mustApply(t, n.config())
	if diff := cmp.Diff(once, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
}

func TestAnotherWayReplacesTheFirst(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, dockerRules("iptables-nft"))
	before := n.ruleset(t)
	n.mustApply(t, n.config())
	other := n.config()
	other.Network, other.Uplink = netip.MustParsePrefix("10.30.0.0/16"), "wlan0"
	report := n.mustApply(t, other)
	if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "no interface wlan0 yet") {
		t.Errorf("%+v", report)
	}
	if text := n.ruleset(t); strings.Contains(text, "10.20.20.0") || !strings.Contains(text, "10.30.0.0/16") {
		t.Error(text)
	}
	n.mustRemove(t)
	if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
}

func TestADryRunSaysAllAndDoesNothing(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, dockerRules("iptables-nft"))
	before := n.exact(t)
	config := n.config()
	config.Persist, config.Program = true, "/usr/bin/scalehook"
	n.host.in(t, func() error {
		report, err := Apply(t.Context(), config, true)
		if len(report.Done) != 5 {
			t.Errorf("%+v", report)
		}
		return err
	})
	if diff := cmp.Diff(before, n.exact(t)); diff != "" {
		t.Error(diff)
	}
	if files := n.files(t); len(files) != 0 {
		t.Errorf("written: %v", files)
	}
}

func TestItHoldsOverAReboot(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, dockerRules("iptables-legacy"))
	before := n.ruleset(t)
	config := n.config()
	config.Persist, config.Program = true, "/opt/my programs/scalehook"
	n.mustApply(t, config)
	want := []string{
		"etc/sysctl.d/60-scalehook-host.conf",
		"etc/systemd/system/multi-user.target.wants/scalehook-host.service",
		"etc/systemd/system/scalehook-host.service",
		"var/lib/scalehook-host/state.json",
	}
	if diff := cmp.Diff(want, n.files(t)); diff != "" {
		t.Error(diff)
	}
	unit, err := os.ReadFile(config.unitPath())
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nExecStart=\"/opt/my programs/scalehook\" \"host\" \"apply\" \"--bridge\" \"br-ex\" \"--network\" \"10.20.20.0/24\"\n"; !strings.Contains(string(unit), want) {
		t.Errorf("%s\nlacks %s", unit, want)
	}
	if s := n.show(t); !s.Persistent {
		t.Error(asJSON(s))
	}
	if report := n.mustApply(t, config); len(report.Done) != 0 {
		t.Errorf("the second time: %v", report.Done)
	}

	// The machine boots: nothing of ours is in the kernel, systemd-sysctl read its
	// files, Docker made its chains.
	n.host.sh(t, "nft flush ruleset; iptables-legacy -F; iptables-legacy -X; iptables-legacy -t nat -F; echo 1 > /proc/sys/net/ipv4/ip_forward\n"+dockerRules("iptables-legacy"))
	n.mustNotPass(t)
	atBoot := n.config() // what the unit says
	atBoot.Network = netip.MustParsePrefix("10.20.20.0/24")
	n.mustApply(t, atBoot)
	n.mustPass(t)

	n.mustRemove(t)
	if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
	if files := n.files(t); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

func TestTheBridgeMayComeLater(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, "ip link del br-ex")
	if _, err := n.apply(t, n.config()); err == nil || !strings.Contains(err.Error(), "no interface br-ex (there are port, ens33)") && !strings.Contains(err.Error(), "no interface br-ex (there are ens33, port)") {
		t.Errorf("%v", err)
	}
	config := n.config()
	config.Network = netip.MustParsePrefix("10.20.20.0/24")
	if report := n.mustApply(t, config); len(report.Warnings) != 1 {
		t.Errorf("%+v", report)
	}
	n.host.sh(t, "ip link add br-ex type bridge; ip link set br-ex up; ip addr add 10.20.20.1/24 dev br-ex; ip link set port master br-ex")
	n.mustPass(t)
}

func TestWhatIsWrongIsSaidBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		change func(*Config)
		want   string
	}{
		"no default route":          {"ip route del default", nil, "there is no default route, so the way out is not known: state it, as --uplink ens33"},
		"the bridge is the way out": {"ip route del default; ip route add default via 10.20.20.9", nil, "the way out is br-ex itself"},
		"a name that is none":       {"", func(c *Config) { c.Uplink = `x"; flush ruleset` }, "not the name of a network interface"},
		"a network with host bits":  {"", func(c *Config) { c.Network = netip.MustParsePrefix("10.20.20.7/24") }, "use an IPv4 network such as 10.20.20.0/24"},
		"a network of IPv6":         {"", func(c *Config) { c.Network = netip.MustParsePrefix("fd00::/64") }, "use an IPv4 network such as 10.20.20.0/24"},
		"a bridge without address":  {"ip addr flush dev br-ex", nil, "br-ex has no IPv4 address that tells its network"},
		"a relative program":        {"", func(c *Config) { c.Persist, c.Program = true, "scalehook" }, "a unit needs an absolute path"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTopology(t)
			config := n.config()
			if c.change != nil {
				c.change(&config)
			}
			n.host.sh(t, c.script)
			before := n.exact(t)
			if _, err := n.apply(t, config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if diff := cmp.Diff(before, n.exact(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
