package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// rules is all that forwarded IPv4 packets of this host can come to.
type rules struct {
	nft      nftRuleset
	iptables []*iptables
}

func readRules(ctx context.Context) (*rules, error) {
	r := &rules{}
	var err error
	if r.nft, err = readNFT(ctx); err != nil {
		return nil, err
	}
	r.iptables, err = readIptables(ctx)
	return r, err
}

// Chain is a base chain at the hook forward, and what it does to the guests' packets.
type Chain struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Why is the policy or the rule that drops or may drop them.
	Why string `json:"why,omitempty"`

	chain *chain
	back  *iptables // of a chain of iptables
}

// judge lists the base chains at the hook forward with their verdicts.
func (r *rules) judge(w Way) []Chain {
	var out []Chain
	add := func(t *table, back *iptables) {
		for _, c := range t.order {
			if !c.forward {
				continue
			}
			verdict, why := t.judge(c, w)
			out = append(out, Chain{Name: c.String(), Verdict: verdict, Why: why, chain: c, back: back})
		}
	}
	ofIptables := map[string]bool{}
	for _, i := range r.iptables {
		for _, name := range []string{"mangle", "filter", "security"} {
			if t := i.tables[name]; t != nil {
				if i.tool == toolXNFT {
					ofIptables[name] = true
				}
				add(t, i)
			}
		}
	}
	for _, t := range r.nft.tables(ofIptables) {
		add(t, nil)
	}
	return out
}

// has tells whether any table has a chain of that name.
func (r *rules) has(name string) bool {
	for _, i := range r.iptables {
		for _, t := range i.tables {
			if t.chains[name] != nil {
				return true
			}
		}
	}
	return false
}

func (r *rules) hasTable(family, name string) bool {
	return slices.ContainsFunc(r.nft.tables(nil), func(t *table) bool {
		return t.order[0].family == family && t.order[0].table == name
	})
}

// dockerTable is Docker's when it speaks to nftables itself.
const dockerTable = "docker-bridges"

// needing names the programs here that need forwarding for themselves.
func (r *rules) needing() []string {
	var out []string
	if r.has("DOCKER") || r.has("DOCKER-USER") || r.hasTable("ip", dockerTable) {
		out = append(out, "Docker")
	}
	if r.has("LIBVIRT_FWO") || r.hasTable("ip", "libvirt_network") {
		out = append(out, "libvirt")
	}
	return out
}

// open sees to it that every base chain passes the guests' packets. What is in its
// way and not for it to change becomes an error, and what drops but some of them a
// warning, both with the command that helps.
func (a *applier) open(ctx context.Context) error {
	if err := a.removeStale(ctx); err != nil {
		return err
	}
	for _, at := range []func(context.Context, Chain) (bool, error){a.openDocker, a.openUFW, a.openFirewalld, a.openPlain} {
		for _, c := range a.rules.judge(a.way) {
			if c.Verdict != Drops { // what is picked out is meant so
				continue
			}
			did, err := at(ctx, c)
			if err != nil {
				a.warnf("%s: %v", c.Name, err)
			}
			if did && !a.dry {
				if a.rules, err = readRules(ctx); err != nil {
					return err
				}
			}
			if did && a.dry {
				return nil // what is left then is not known
			}
		}
	}
	var errs []error
	for _, c := range a.rules.judge(a.way) {
		switch c.Verdict {
		case Passes:
		case MayDrop:
			a.warnf("%s drops some of the guests' packets (%s); it is left as it is. Where that is not meant: %s", c.Name, c.Why, a.advice(c))
		case Drops:
			errs = append(errs, fmt.Errorf("%s drops forwarded packets of the guests (%s), and this is no place where scalehook may write: %s", c.Name, c.Why, a.advice(c)))
		}
	}
	return errors.Join(errs...)
}

// removeStale takes out what an earlier run with another way left.
func (a *applier) removeStale(ctx context.Context) error {
	for _, i := range a.rules.iptables {
		if stale := i.stale(&a.way); len(stale) > 0 {
			err := a.do(fmt.Sprintf("%s: take out %d rules of another way", i.tool, len(stale)), func() error { return i.remove(ctx, stale) })
			if err != nil {
				return err
			}
		}
	}
	if a.rules.has(ufwChain) {
		return a.removeUFW(ctx, &a.way)
	}
	return nil
}

// isFilterOfIptables: FORWARD of the table filter, where all those firewalls are.
func (c Chain) isFilterOfIptables() bool { return c.back != nil && c.chain.table == "filter" }

// openDocker uses DOCKER-USER, which Docker calls first and never changes.
func (a *applier) openDocker(ctx context.Context, c Chain) (bool, error) {
	if !c.isFilterOfIptables() || !calls(c.chain, "DOCKER-USER") || c.back.tables["filter"].chains["DOCKER-USER"] == nil {
		return false, nil
	}
	return a.insert(ctx, c, "DOCKER-USER", "Docker's chain for rules of others")
}

// openPlain puts the accepts at the top of FORWARD, as one does by hand where no
// known program owns it, or where that program's own place was not enough.
func (a *applier) openPlain(ctx context.Context, c Chain) (bool, error) {
	if !c.isFilterOfIptables() {
		return false, nil
	}
	return a.insert(ctx, c, "FORWARD", "no firewall that has a better place is known here")
}

func (a *applier) insert(ctx context.Context, c Chain, chainName, reason string) (bool, error) {
	return true, a.do(fmt.Sprintf("%s: accept %v and the answers to it in %s (%s)", c.back.tool, a.way, chainName, reason), func() error {
		return c.back.insert(ctx, chainName, a.way)
	})
}

// calls tells whether a chain jumps to another without a condition.
func calls(c *chain, target string) bool {
	return slices.ContainsFunc(c.rules, func(r rule) bool { return r.verb == jump && r.target == target && len(r.tests) == 0 })
}

// ufwChain is where ufw puts what was said with "ufw route".
const ufwChain = "ufw-user-forward"

// ufwRule is our rule, as the words after "ufw route".
func (w Way) ufwRule() []string {
	return []string{"allow", "in", "on", w.Bridge, "out", "on", w.Uplink, "from", w.Network.String()}
}

// openUFW adds a route rule, which ufw keeps over reloads and reboots. Answers are
// accepted by the rules that ufw comes with.
func (a *applier) openUFW(ctx context.Context, c Chain) (bool, error) {
	if !c.isFilterOfIptables() || c.back.tables["filter"].chains[ufwChain] == nil {
		return false, nil
	}
	args := append(append([]string{"route"}, a.way.ufwRule()...), "comment", mark)
	if !a.config.has("ufw") {
		return false, fmt.Errorf("ufw is at work here, and its program is not found: run %s", line("ufw", args))
	}
	return true, a.do("ufw: allow "+a.way.String()+" ("+line("ufw", args)+")", func() error {
		_, err := run(ctx, "", "ufw", args...)
		return err
	})
}

// removeUFW takes out our rules, but not the one for keep.
func (a *applier) removeUFW(ctx context.Context, keep *Way) error {
	if !a.config.has("ufw") || !exists(a.config.path("etc/ufw/ufw.conf")) {
		return nil
	}
	added, err := run(ctx, "", "ufw", "show", "added")
	if err != nil {
		return fmt.Errorf("ask ufw for its rules: %w", err)
	}
	for l := range strings.Lines(added) {
		words := splitWords(strings.ReplaceAll(strings.TrimSpace(l), "'", `"`))
		at := slices.Index(words, "comment")
		if len(words) < 3 || words[0] != "ufw" || words[1] != "route" || at < 0 || at+1 >= len(words) || words[at+1] != mark {
			continue
		}
		body := words[2:at]
		if keep != nil && slices.Equal(body, keep.ufwRule()) {
			continue
		}
		args := append([]string{"--force", "route", "delete"}, body...)
		if err := a.do("ufw: "+line("ufw", args), func() error { _, err := run(ctx, "", "ufw", args...); return err }); err != nil {
			return err
		}
	}
	return nil
}

// advice is what a person can do about a chain that is left to them.
func (a *applier) advice(c Chain) string {
	switch {
	case c.chain.family == "ip" && c.chain.table == dockerTable:
		return `Docker set this policy when it turned forwarding on; now that it is on, "systemctl restart docker" lifts it, or "ip-forward-no-drop": true in /etc/docker/daemon.json`
	case c.chain.table == "firewalld":
		return "in firewalld, " + strings.Join(a.firewalldCommands(), "; ")
	case c.back != nil:
		var commands []string
		for _, spec := range slices.Backward(a.way.accepts()) {
			commands = append(commands, line(c.back.program, append([]string{"-t", c.chain.table, "-I", c.chain.name}, spec...)))
		}
		return "run " + strings.Join(commands, "; ")
	}
	w, at := a.way, c.chain.family+" "+c.chain.table+" "+c.chain.name
	return fmt.Sprintf(`put two rules first into it, in the file that makes it (often /etc/nftables.conf), or until the next boot: `+
		`nft 'insert rule %s iifname "%s" oifname "%s" ip daddr %v ct state established,related accept'; nft 'insert rule %s iifname "%s" oifname "%s" ip saddr %v accept'`,
		at, w.Uplink, w.Bridge, w.Network, at, w.Bridge, w.Uplink, w.Network)
}

// rooted tells whether paths are a test's; then the machine's own systemd is left alone.
func (c Config) rooted() bool { return c.Root != "" && c.Root != "/" }

// exists tells whether there is a file of that name.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
