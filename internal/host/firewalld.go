package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// firewalld's policies are its place for packets from zone to zone. Ours is between
// any two, so that the bridge keeps the zone it has, and accepts by the source
// address; answers are accepted by firewalld's own first rule.
func (w Way) richRule() string {
	return fmt.Sprintf(`rule family="ipv4" source address="%v" accept`, w.Network)
}

// firewalldCommands are those of a person.
func (a *applier) firewalldCommands() []string {
	return []string{
		"firewall-cmd --permanent --new-policy=" + mark,
		"firewall-cmd --permanent --policy=" + mark + " --add-ingress-zone=ANY",
		"firewall-cmd --permanent --policy=" + mark + " --add-egress-zone=ANY",
		line("firewall-cmd", []string{"--permanent", "--policy=" + mark, "--add-rich-rule=" + a.way.richRule()}),
		"firewall-cmd --reload",
	}
}

func isFirewalld(c Chain) bool {
	if c.chain.tool == toolNFT {
		return c.chain.table == "firewalld"
	}
	return c.isFilterOfIptables() && (calls(c.chain, "FORWARD_direct") || calls(c.chain, "FORWARD_IN_ZONES"))
}

// openFirewalld makes the policy. A policy is made in the permanent configuration
// only and loaded by a reload, which forgets what others changed at run time alone:
// where there is such a change, it is left to a person.
func (a *applier) openFirewalld(ctx context.Context, c Chain) (bool, error) {
	if !isFirewalld(c) {
		return false, nil
	}
	have, err := firewalldPolicies(ctx, "--permanent")
	if err != nil {
		return false, fmt.Errorf("firewalld is at work here, and cannot be told what to accept: %w", err)
	}
	policy := func(where string, option ...string) error {
		args := append([]string{"--policy=" + mark}, option...)
		if where != "" {
			args = append([]string{where}, args...)
		}
		_, err := run(ctx, "", "firewall-cmd", args...)
		return err
	}
	if !slices.Contains(have, mark) {
		err := a.do("firewalld: make the policy "+mark, func() error {
			_, err := run(ctx, "", "firewall-cmd", "--permanent", "--new-policy="+mark)
			return err
		})
		if err != nil {
			return false, err
		}
	}
	err = a.do("firewalld: accept "+a.way.Network.String()+" between any two zones in that policy", func() error {
		// Each is "already" if it was there, which firewall-cmd counts as done.
		err := errors.Join(policy("--permanent", "--add-ingress-zone=ANY"), policy("--permanent", "--add-egress-zone=ANY"))
		return errors.Join(err, a.richRules(ctx, "--permanent"))
	})
	if err != nil {
		return false, err
	}
	if a.dry {
		return true, nil
	}
	running, err := firewalldPolicies(ctx, "")
	if err != nil {
		return false, err
	}
	if slices.Contains(running, mark) {
		return true, a.do("firewalld: and at run time", func() error { return a.richRules(ctx, "") })
	}
	return true, a.reloadFirewalld(ctx)
}

// richRules leaves our rule as the policy's only one.
func (a *applier) richRules(ctx context.Context, where string) error {
	call := func(option string) (string, error) {
		args := []string{"--policy=" + mark, option}
		if where != "" {
			args = append([]string{where}, args...)
		}
		return run(ctx, "", "firewall-cmd", args...)
	}
	text, err := call("--list-rich-rules")
	if err != nil {
		return err
	}
	errs := []error{}
	there := false
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		if l == a.way.richRule() {
			there = true
		} else if l != "" {
			_, err := call("--remove-rich-rule=" + l)
			errs = append(errs, err)
		}
	}
	if !there {
		_, err := call("--add-rich-rule=" + a.way.richRule())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func firewalldPolicies(ctx context.Context, where string) ([]string, error) {
	args := []string{"--get-policies"}
	if where != "" {
		args = append([]string{where}, args...)
	}
	text, err := run(ctx, "", "firewall-cmd", args...)
	return strings.Fields(text), err
}

// reloadFirewalld loads the permanent configuration, unless that loses something.
func (a *applier) reloadFirewalld(ctx context.Context) error {
	lost, err := runtimeOnly(ctx)
	if err != nil {
		return err
	}
	if lost != "" {
		return fmt.Errorf("firewalld has changes that are not in its permanent configuration, and loading the policy %s would lose them (%s): "+
			"run firewall-cmd --runtime-to-permanent to keep them, or firewall-cmd --reload to lose them, and then this again", mark, lost)
	}
	return a.do("firewalld: reload", func() error {
		_, err := run(ctx, "", "firewall-cmd", "--reload")
		return err
	})
}

// runtimeOnly names the first setting that a reload would lose, besides ours.
// Interfaces are left out: firewalld keeps them over a reload.
func runtimeOnly(ctx context.Context) (string, error) {
	for _, args := range [][]string{{"--list-all-zones"}, {"--list-all-policies"}, {"--direct", "--get-all-rules"}} {
		now, err := run(ctx, "", "firewall-cmd", args...)
		if err != nil {
			return "", err
		}
		permanent, err := run(ctx, "", "firewall-cmd", append([]string{"--permanent"}, args...)...)
		if err != nil {
			return "", err
		}
		was := settings(permanent)
		for _, s := range settings(now) {
			if !slices.Contains(was, s) {
				return s, nil
			}
		}
	}
	return "", nil
}

// settings are the lines of a listing, each with the heading above it. Headings
// end with "(active)" and the like, which a permanent one never has.
func settings(text string) []string {
	var out []string
	heading := ""
	for l := range strings.Lines(text) {
		setting := strings.TrimSpace(l)
		switch {
		case setting == "":
			continue
		case l[0] != ' ' && l[0] != '\t':
			heading, _, _ = strings.Cut(setting, " (")
			setting = ""
		case strings.HasPrefix(setting, "interfaces:"):
			continue
		}
		if heading != mark {
			out = append(out, heading+": "+setting)
		}
	}
	return out
}

// removeFirewalld deletes the policy.
func (a *applier) removeFirewalld(ctx context.Context) error {
	if !a.config.has("firewall-cmd") {
		return nil
	}
	if _, err := run(ctx, "", "firewall-cmd", "--state"); err != nil {
		if file := a.config.path("etc/firewalld/policies", mark+".xml"); exists(file) {
			return a.do("firewalld: delete the policy "+mark+" of a firewalld that does not run", func() error {
				_, err := run(ctx, "", "firewall-offline-cmd", "--delete-policy="+mark)
				return err
			})
		}
		return nil
	}
	have, err := firewalldPolicies(ctx, "--permanent")
	if err != nil {
		return nil //nolint:nilerr // a firewalld without policies has none of ours
	}
	if slices.Contains(have, mark) {
		err = a.do("firewalld: delete the policy "+mark, func() error {
			_, err := run(ctx, "", "firewall-cmd", "--permanent", "--delete-policy="+mark)
			return err
		})
		if err != nil {
			return err
		}
	}
	running, err := firewalldPolicies(ctx, "")
	if err != nil || !slices.Contains(running, mark) {
		return err
	}
	// Even where the reload has to wait, nothing is let through any more.
	if text, err := run(ctx, "", "firewall-cmd", "--policy="+mark, "--list-rich-rules"); err != nil {
		return err
	} else if strings.TrimSpace(text) != "" {
		err := a.do("firewalld: take the rule out at run time", func() error {
			_, err := run(ctx, "", "firewall-cmd", "--policy="+mark, "--remove-rich-rule="+strings.TrimSpace(text))
			return err
		})
		if err != nil {
			return err
		}
	}
	return a.reloadFirewalld(ctx)
}
