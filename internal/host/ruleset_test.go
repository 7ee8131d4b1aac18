package host

import (
	"net/netip"
	"strings"
	"testing"
)

func testWay() Way {
	return Way{Bridge: "br-ex", Network: netip.MustParsePrefix("10.20.20.0/24"), Uplink: "ens33"}
}

func TestAChainOfIptablesIsJudgedByItsRules(t *testing.T) {
	for name, c := range map[string]struct {
		policy, rules string
		want          Verdict
		why           string
	}{
		"nothing":                               {"ACCEPT", "", Passes, ""},
		"a policy":                              {"DROP", "", Drops, "policy drop"},
		"the seed's rules":                      {"DROP", "-A FORWARD -i ens33 -o br-ex -m state --state RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -i br-ex -o ens33 -j ACCEPT", Passes, ""},
		"answers are not let in":                {"DROP", "-A FORWARD -i br-ex -o ens33 -j ACCEPT", Drops, "policy drop"},
		"only established ones":                 {"DROP", "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", Drops, "policy drop"},
		"other interfaces":                      {"ACCEPT", "-A FORWARD -i docker0 -j DROP\n-A FORWARD ! -i br-ex -o docker0 -j DROP", Passes, ""},
		"a wildcard":                            {"ACCEPT", "-A FORWARD -i br-+ -j DROP", Drops, "-A FORWARD -i br-+ -j DROP"},
		"not another interface":                 {"ACCEPT", "-A FORWARD ! -i docker0 -j DROP", Drops, "! -i docker0"},
		"another network":                       {"ACCEPT", "-A FORWARD -i br-ex -s 192.168.0.0/16 -j DROP", Passes, ""},
		"a wider network":                       {"ACCEPT", "-A FORWARD -s 10.0.0.0/8 -j DROP", Drops, "10.0.0.0/8"},
		"one of the guests":                     {"ACCEPT", "-A FORWARD -s 10.20.20.9/32 -j DROP", MayDrop, "10.20.20.9"},
		"somewhere in the world":                {"ACCEPT", "-A FORWARD -d 198.51.100.0/24 -j REJECT", MayDrop, "198.51.100.0"},
		"a port":                                {"ACCEPT", "-A FORWARD -p tcp -m tcp --dport 25 -j DROP", MayDrop, "--dport 25"},
		"another protocol":                      {"ACCEPT", "-A FORWARD -p udp -m udp --dport 53 -j DROP", Passes, ""},
		"all but one address":                   {"ACCEPT", "-A FORWARD -i ens33 ! -s 192.0.2.2/32 -j DROP", Drops, "192.0.2.2"},
		"a list of who may":                     {"DROP", "-A FORWARD -m set --match-set good src -j ACCEPT", Drops, "policy drop"},
		"all ports but one":                     {"DROP", "-A FORWARD -p tcp -m tcp ! --dport 25 -j ACCEPT", MayDrop, "policy drop"},
		"what is invalid":                       {"ACCEPT", "-A FORWARD -m conntrack --ctstate INVALID -j DROP", Passes, ""},
		"a chain that returns":                  {"ACCEPT", "-A FORWARD -j SUB\n-A SUB -i br-ex -j RETURN\n-A SUB -j DROP", Drops, "-A SUB -j DROP"},
		"a chain that accepts first":            {"DROP", "-A FORWARD -j SUB\n-A SUB -j ACCEPT", Passes, ""},
		"a goto does not come back":             {"ACCEPT", "-A FORWARD -g SUB\n-A FORWARD -j DROP", Passes, ""},
		"a jump does":                           {"ACCEPT", "-A FORWARD -j SUB\n-A FORWARD -j DROP", Drops, "-A FORWARD -j DROP"},
		"a target that is not known":            {"ACCEPT", "-A FORWARD -j WEIRD", MayDrop, "WEIRD"},
		"a target that does nothing":            {"ACCEPT", `-A FORWARD -j LOG --log-prefix "[BLOCK] -j DROP "`, Passes, ""},
		"a comment that looks like a rule":      {"ACCEPT", `-A FORWARD -i docker0 -m comment --comment "-j \"ACCEPT\"" -j DROP`, Passes, ""},
		"a match with a value that was negated": {"ACCEPT", "-A FORWARD -m addrtype ! --dst-type LOCAL -i docker0 -j DROP", Passes, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tables, err := parseSave("# a comment\n*filter\n:FORWARD "+c.policy+" [1:2]\n:SUB - [0:0]\n"+c.rules+"\nCOMMIT\n", toolLegacy)
			if err != nil {
				t.Fatal(err)
			}
			got, why := tables["filter"].judge(tables["filter"].chains["FORWARD"], testWay())
			if got != c.want || !strings.Contains(why, c.why) {
				t.Errorf("%s (%s), want %s (%s)", got, why, c.want, c.why)
			}
		})
	}
	for _, text := range []string{"-A FORWARD -j DROP", "*filter\n-A NOWHERE -j DROP", "*filter\nwhat"} {
		if _, err := parseSave(text, toolLegacy); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestAChainOfNftablesIsJudgedByItsRules(t *testing.T) {
	const (
		out = `{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"br-ex"}}`
		in  = `{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"br-ex"}}`
	)
	for name, c := range map[string]struct {
		policy, rules string // expressions of rules, one a line
		want          Verdict
	}{
		"nothing":                         {"accept", "", Passes},
		"a policy":                        {"drop", "", Drops},
		"both ways":                       {"drop", out + `,{"accept":null}` + "\n" + in + `,{"accept":null}`, Passes},
		"one way":                         {"drop", out + `,{"accept":null}`, Drops},
		"a reject":                        {"accept", `{"counter":{"packets":1,"bytes":2}},{"reject":{"type":"icmpx","expr":"admin-prohibited"}}`, Drops},
		"IPv6":                            {"accept", `{"match":{"op":"==","left":{"meta":{"key":"nfproto"}},"right":"ipv6"}},{"drop":null}`, Passes},
		"not IPv6":                        {"accept", `{"match":{"op":"!=","left":{"meta":{"key":"nfproto"}},"right":"ipv6"}},{"drop":null}`, Drops},
		"an address of IPv6":              {"accept", `{"match":{"op":"!=","left":{"payload":{"protocol":"ip6","field":"saddr"}},"right":"fe80::1"}},{"drop":null}`, Passes},
		"a set":                           {"drop", `{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":{"set":["br-ex","ens33"]}}},{"accept":null}`, Passes},
		"a named set":                     {"drop", `{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"@good"}},{"accept":null}`, Passes},
		"a set that is not there":         {"drop", `{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"@bad"}},{"accept":null}`, Drops},
		"a verdict map of states":         {"drop", `{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["established",{"accept":null}],["related",{"accept":null}],["new",{"jump":{"target":"sub"}}],["invalid",{"drop":null}]]}}}`, Passes},
		"a verdict map of interfaces":     {"accept", `{"vmap":{"key":{"meta":{"key":"oifname"}},"data":{"set":[["docker0",{"drop":null}]]}}}`, Passes},
		"a verdict map by name":           {"accept", `{"vmap":{"key":{"meta":{"key":"oifname"}},"data":"@verdicts"}}`, Drops},
		"a verdict map that is not there": {"accept", `{"vmap":{"key":{"meta":{"key":"oifname"}},"data":"@nowhere"}}`, MayDrop},
		"a network":                       {"accept", `{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.20.0.0","len":16}}}},{"drop":null}`, Drops},
		"another network":                 {"accept", `{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.21.0.0","len":16}}}},` + out + `,{"drop":null}`, Passes},
		"what is translated":              {"accept", `{"match":{"op":"in","left":{"ct":{"key":"status"}},"right":"dnat"}},{"drop":null}`, Passes},
		"protocols":                       {"accept", `{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["icmp","udp"]}}},{"drop":null}`, Passes},
		"a limit":                         {"drop", `{"limit":{"rate":400,"per":"minute"}},{"accept":null}`, Drops},
		"a queue":                         {"accept", `{"queue":{"num":1}}`, MayDrop},
		"a circle":                        {"accept", `{"jump":{"target":"circle"}}`, MayDrop},
	} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			text.WriteString(`{"nftables":[{"metainfo":{"json_schema_version":1}},{"table":{"family":"inet","name":"t"}},
				{"set":{"family":"inet","table":"t","name":"good","type":"ifname","elem":["br-ex","ens33"]}},
				{"map":{"family":"inet","table":"t","name":"verdicts","type":"ifname","map":"verdict","elem":[["ens33",{"drop":null}]]}},
				{"chain":{"family":"inet","table":"t","name":"f","type":"filter","hook":"forward","prio":0,"policy":"` + c.policy + `"}},
				{"chain":{"family":"inet","table":"t","name":"sub"}},{"chain":{"family":"inet","table":"t","name":"circle"}},
				{"rule":{"family":"inet","table":"t","chain":"sub","handle":9,"expr":[{"accept":null}]}},
				{"rule":{"family":"inet","table":"t","chain":"circle","handle":9,"expr":[{"goto":{"target":"circle"}}]}}`)
			for line := range strings.Lines(c.rules) {
				text.WriteString(`,{"rule":{"family":"inet","table":"t","chain":"f","handle":9,"expr":[` + strings.TrimSpace(line) + `]}}`)
			}
			parsed, err := parseNFT(text.String() + `]}`)
			if err != nil {
				t.Fatal(err)
			}
			got := (&rules{nft: parsed}).judge(testWay())
			if len(got) != 1 || got[0].Verdict != c.want {
				t.Errorf("%+v, want %s", got, c.want)
			}
		})
	}
}

func TestTheUplinkIsThatOfTheBestDefaultRoute(t *testing.T) {
	const header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	for name, c := range map[string]struct{ table, want string }{
		"one":                              {"ens33\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\nens33\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n", "ens33"},
		"two":                              {"wlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\nens33\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "ens33"},
		"one that is no metric above none": {"wlan0\t00000000\t010200C0\t0003\t0\t0\t1\t00000000\t0\t0\t0\nppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n", "ppp0"},
		"one that is down":                 {"ens33\t00000000\t010200C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\nens34\t00000000\t010200C0\t0003\t0\t0\t9\t00000000\t0\t0\t0\n", "ens34"},
		"half of the world":                {"tun0\t00000000\t010200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\nens34\t00000000\t010200C0\t0003\t0\t0\t9\t00000000\t0\t0\t0\n", "ens34"},
		"unreachable":                      {"*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n", ""},
		"none":                             {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := uplink(header + c.table)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestSettingsOfFirewalldAreComparedByTheirHeading(t *testing.T) {
	now := settings("public (default, active)\n  interfaces: ens33\n  ports: 8080/tcp\nscalehook-host (active)\n  target: CONTINUE\nhome\n  ports: \n")
	want := []string{"public: ", "public: ports: 8080/tcp", "home: ", "home: ports:"}
	if strings.Join(now, "|") != strings.Join(want, "|") {
		t.Errorf("%q", now)
	}
}
