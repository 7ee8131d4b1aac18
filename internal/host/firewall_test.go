package host

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dockerRules are what Docker makes when it had to turn forwarding on itself.
func dockerRules(iptables string) string {
	return strings.ReplaceAll(`echo 1 > /proc/sys/net/ipv4/ip_forward
		iptables -N DOCKER; iptables -N DOCKER-ISOLATION-STAGE-1; iptables -N DOCKER-USER
		iptables -P FORWARD DROP
		iptables -A DOCKER-USER -j RETURN
		iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
		iptables -I FORWARD -i docker0 -o docker0 -j ACCEPT
		iptables -I FORWARD -i docker0 ! -o docker0 -j ACCEPT
		iptables -I FORWARD -o docker0 -j DOCKER
		iptables -I FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		iptables -I FORWARD -j DOCKER-ISOLATION-STAGE-1
		iptables -I FORWARD -j DOCKER-USER
		iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
		`, "iptables ", iptables+" ")
}

func TestFirewallsOfTheHostLetTheGuestsOutAndNobodyIn(t *testing.T) {
	t.Parallel()
	const inIptables = `
		iptables -P FORWARD DROP
		iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP`
	for name, c := range map[string]struct {
		script string
		want   string // in what was done
	}{
		"Docker over iptables-nft":    {dockerRules("iptables-nft"), "iptables-nft: accept 10.20.20.0/24 from br-ex to ens33 and the answers to it in DOCKER-USER"},
		"Docker over iptables-legacy": {dockerRules("iptables-legacy"), "iptables-legacy: accept 10.20.20.0/24 from br-ex to ens33 and the answers to it in DOCKER-USER"},
		"Docker behind a reject": {
			dockerRules("iptables-nft") + "iptables-nft -I FORWARD -j REJECT",
			"in FORWARD (no firewall that has a better place is known here)",
		},
		"a policy in iptables-nft":    {strings.ReplaceAll(inIptables, "iptables ", "iptables-nft "), "iptables-nft: accept 10.20.20.0/24 from br-ex to ens33 and the answers to it in FORWARD"},
		"a policy in iptables-legacy": {strings.ReplaceAll(inIptables, "iptables ", "iptables-legacy "), "iptables-legacy: accept 10.20.20.0/24 from br-ex to ens33 and the answers to it in FORWARD"},
		"a reject at the end, and answers accepted": {
			"iptables-nft -A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT; iptables-nft -A FORWARD -j REJECT --reject-with icmp-host-prohibited",
			"in FORWARD",
		},
		"both of iptables' ways at once": {dockerRules("iptables-legacy") + strings.ReplaceAll(inIptables, "iptables ", "iptables-nft "), "iptables-legacy: accept"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTopology(t)
			n.host.sh(t, "echo 1 > /proc/sys/net/ipv4/ip_forward\n"+c.script)
			before := n.ruleset(t)
			n.mustNotPass(t)

			report := n.mustApply(t, n.config())
			if done := strings.Join(report.Done, "\n"); !strings.Contains(done, c.want) {
				t.Errorf("%s\nlacks %q", done, c.want)
			}
			n.mustPass(t)
			n.mustNotBeReached(t)
			for _, chain := range report.Chains {
				if chain.Verdict != Passes {
					t.Errorf("%+v", chain)
				}
			}
			once := n.ruleset(t)
			if report := n.mustApply(t, n.config()); len(report.Done) != 0 {
				t.Errorf("the second time: %v", report.Done)
			}
			if diff := cmp.Diff(once, n.ruleset(t)); diff != "" {
				t.Errorf("the second time changed: %s", diff)
			}

			n.mustRemove(t)
			if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
				t.Error(diff)
			}
			n.mustNotPass(t)
		})
	}
}

func TestAFirewallThatPassesIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"Docker, after forwarding was on": dockerRules("iptables-nft") + "iptables-nft -P FORWARD ACCEPT",
		"libvirt's networks": `iptables-nft -N LIBVIRT_FWI; iptables-nft -A FORWARD -j LIBVIRT_FWI
			iptables-nft -A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
			iptables-nft -A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable`,
		"an administrator's own rules": `nft -f - <<EOF
table inet filter {
	set good { type ifname; elements = { "br-ex", "br-int" } }
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state vmap { established : accept, related : accept, invalid : drop }
		meta nfproto ipv6 drop
		ip6 saddr fe80::/10 drop
		ip daddr 10.99.0.0/16 drop
		iifname @good oifname "ens*" accept
	}
}
EOF`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTopology(t)
			n.host.sh(t, "echo 1 > /proc/sys/net/ipv4/ip_forward\n"+script)
			report := n.mustApply(t, n.config())
			if strings.Contains(name, "administrator") {
				// What begins from br-ex to 10.99.0.0/16 is dropped, as it was meant.
				if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "inet filter forward") {
					t.Errorf("%v", report.Warnings)
				}
			} else if len(report.Warnings) != 0 {
				t.Errorf("%v", report.Warnings)
			}
			if len(report.Done) != 1 {
				t.Errorf("%v", report.Done)
			}
			n.mustPass(t)
		})
	}
}

func TestATableThatIsNotOursToChangeIsNamedWithTheCommandThatHelps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, chain string }{
		"a table of somebody's own": {
			`nft 'table inet filter { chain forward { type filter hook forward priority filter; policy drop; }; }'`,
			"inet filter forward",
		},
		"one of iptables' name that iptables cannot read": {
			"nft -f - <<EOF\ntable ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority 0; policy drop;\n\t\tct state vmap { invalid : drop }\n\t}\n}\nEOF",
			"ip filter FORWARD",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTopology(t)
			n.host.sh(t, c.script)
			report, err := n.apply(t, n.config())
			if err == nil || !strings.Contains(err.Error(), c.chain+" drops forwarded packets of the guests (policy drop)") {
				t.Fatalf("%v", err)
			}
			if len(report.Done) != 2 {
				t.Errorf("the rest was not done: %v", report.Done)
			}
			n.mustNotPass(t)
			_, commands, _ := strings.Cut(err.Error(), "until the next boot: ")
			n.host.sh(t, commands)
			n.mustApply(t, n.config())
			n.mustPass(t)
			n.mustNotBeReached(t)
			if s := n.show(t); !s.InForce {
				t.Error(asJSON(s))
			}
		})
	}
}

func TestDockersOwnTableIsLeftToDocker(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, `nft 'table ip docker-bridges {
		map filter-forward-in-jumps { type ifname : verdict; elements = { "docker0" : drop }; }
		chain filter-FORWARD { type filter hook forward priority filter; policy drop; oifname vmap @filter-forward-in-jumps; }
	}'`)
	if _, err := n.apply(t, n.config()); err == nil || !strings.Contains(err.Error(), `"systemctl restart docker" lifts it`) {
		t.Fatalf("%v", err)
	}
	n.host.sh(t, `nft 'chain ip docker-bridges filter-FORWARD { policy accept; }'`)
	n.mustApply(t, n.config())
	n.mustPass(t)
}

// ufw is at work: its chains, as the real one made them, and its configuration.
func (n *topology) ufw(t *testing.T) {
	t.Helper()
	n.host.sh(t, `iptables-nft-restore < "$SCALEHOOK_TESTDATA/ufw.rules"; mkdir -p `+n.root+`/etc/ufw; echo ENABLED=yes > `+n.root+`/etc/ufw/ufw.conf`)
}

func TestUFWKeepsTheRuleAmongItsOwn(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.ufw(t)
	before := n.ruleset(t)
	if seen, err := connect(t, n.guest, n.world, worldAddress, briefly); err == nil {
		t.Errorf("the guest reaches the world as %v", seen)
	}
	report := n.mustApply(t, n.config())
	if want := "ufw route allow in on br-ex out on ens33 from 10.20.20.0/24 comment scalehook-host"; !strings.Contains(strings.Join(report.Done, "\n"), want) {
		t.Errorf("%v", report.Done)
	}
	n.mustPass(t)
	n.mustNotBeReached(t)
	if report := n.mustApply(t, n.config()); len(report.Done) != 0 {
		t.Errorf("the second time: %v", report.Done)
	}
	n.host.sh(t, "ip link add wlan0 type veth peer name other; ip link set wlan0 up")
	other := n.config()
	other.Uplink = "wlan0"
	n.mustApply(t, other)
	if got := n.host.sh(t, "ufw show added | grep -c scalehook-host; ufw show added | grep -c wlan0"); got != "1\n1\n" {
		t.Errorf("%s", got)
	}
	n.host.sh(t, "ip link del wlan0")
	n.mustRemove(t)
	if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
}

func TestUFWWithoutItsProgramIsNamed(t *testing.T) {
	n := newTopology(t)
	n.ufw(t)
	config := n.config()
	config.without = "ufw"
	report := n.mustApply(t, config)
	if len(report.Warnings) == 0 || !strings.Contains(report.Warnings[0], "run ufw route allow in on br-ex out on ens33") {
		t.Errorf("%+v", report)
	}
	n.mustPass(t) // by a rule in FORWARD itself
}

func TestFirewalldAcceptsInAPolicyOfItsOwn(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, `nft -f "$SCALEHOOK_TESTDATA/firewalld.nft"`)
	before := n.ruleset(t)
	n.mustNotPass(t)
	report := n.mustApply(t, n.config())
	want := []string{"firewalld: make the policy scalehook-host", "firewalld: accept 10.20.20.0/24 between any two zones in that policy", "firewalld: reload"}
	if diff := cmp.Diff(want, report.Done[2:]); diff != "" {
		t.Error(diff)
	}
	n.mustPass(t)
	n.mustNotBeReached(t)
	if report := n.mustApply(t, n.config()); len(report.Done) != 0 {
		t.Errorf("the second time: %v", report.Done)
	}

	// Another network replaces the rule where it stands, without a reload.
	other := n.config()
	other.Network = netip.MustParsePrefix("10.0.0.0/8")
	n.host.sh(t, "firewall-cmd --zone=public --add-port=8080/tcp")
	n.mustApply(t, other)
	if got := n.host.sh(t, "firewall-cmd --policy=scalehook-host --list-rich-rules"); got != "rule family=\"ipv4\" source address=\"10.0.0.0/8\" accept\n" {
		t.Errorf("%s", got)
	}
	n.mustPass(t)

	// A reload that would lose somebody's port is left to that person.
	n.host.in(t, func() error {
		_, err := Remove(t.Context(), n.config(), false)
		if err == nil || !strings.Contains(err.Error(), "(public: ports: 8080/tcp)") {
			t.Errorf("%v", err)
		}
		return nil
	})
	n.mustNotPass(t)
	n.host.sh(t, "firewall-cmd --zone=public --remove-port=8080/tcp")
	n.mustRemove(t)
	if diff := cmp.Diff(before, n.ruleset(t)); diff != "" {
		t.Error(diff)
	}
}

func TestFirewalldIsNotReloadedOverSomebodysChanges(t *testing.T) {
	t.Parallel()
	n := newTopology(t)
	n.host.sh(t, `nft -f "$SCALEHOOK_TESTDATA/firewalld.nft"; firewall-cmd --zone=public --add-port=8080/tcp`)
	_, err := n.apply(t, n.config())
	if err == nil || !strings.Contains(err.Error(), "firewall-cmd --reload") {
		t.Fatalf("%v", err)
	}
	n.mustNotPass(t)
	n.host.sh(t, "firewall-cmd --zone=public --remove-port=8080/tcp")
	n.mustApply(t, n.config())
	n.mustPass(t)
}
