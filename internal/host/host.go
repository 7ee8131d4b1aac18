package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Report is what Apply and Remove did.
type Report struct {
	Way Way `json:"way,omitzero"`
	// Done are the changes, in order; none if all was as it should be.
	Done     []string `json:"done"`
	Warnings []string `json:"warnings"`
	// Chains are the base chains at the hook forward afterwards.
	Chains []Chain `json:"chains,omitempty"`
}

// applier is one run.
type applier struct {
	config Config
	way    Way
	dry    bool
	rules  *rules
	report Report
}

// do does a step and writes it down; a dry run only writes it down.
func (a *applier) do(what string, step func() error) error {
	if !a.dry {
		if err := step(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	a.report.Done = append(a.report.Done, what)
	return nil
}

func (a *applier) warnf(format string, args ...any) {
	a.report.Warnings = append(a.report.Warnings, fmt.Sprintf(format, args...))
}

// errNotRoot says how to be it.
var errNotRoot = errors.New("rules and settings of the host need root: run it with sudo")

// Apply turns forwarding on, masquerades, and makes the host's firewalls pass the
// guests' packets. What is as it should be stays untouched, to the byte. With dry
// it changes nothing and reports what it would do. The report is filled in even
// with an error: packets that will be dropped by something that is not ours to
// change are one, and all the rest is done then.
func Apply(ctx context.Context, config Config, dry bool) (Report, error) {
	a := &applier{config: config, dry: dry, report: Report{Done: []string{}, Warnings: []string{}}}
	if os.Geteuid() != 0 {
		return a.report, errNotRoot
	}
	way, warnings, err := config.resolve()
	if err != nil {
		return a.report, err
	}
	a.way, a.report.Way, a.report.Warnings = way, way, append(a.report.Warnings, warnings...)
	start, err := a.apply(ctx)
	if start { // only now, since the unit's command takes the lock too
		err = errors.Join(err, a.do("start "+unitName, func() error {
			_, err := run(ctx, "", "systemctl", "start", unitName)
			return err
		}))
	}
	return a.report, err
}

func (a *applier) apply(ctx context.Context) (start bool, err error) {
	unlock, err := a.config.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if a.rules, err = readRules(ctx); err != nil {
		return false, err
	}
	if err := a.remember(); err != nil {
		return false, err
	}
	if now, err := readSetting("ip_forward"); err != nil {
		return false, err
	} else if now != "1" {
		if err := a.do("set net.ipv4.ip_forward to 1 (it was "+now+")", func() error { return writeSetting("ip_forward", "1") }); err != nil {
			return false, err
		}
	}
	if _, right := a.rules.nft.own(a.way); !right {
		err := a.do(fmt.Sprintf("nft: masquerade %v in the table ip %s", a.way, ownTable), func() error {
			_, err := run(ctx, a.way.ownRules(), "nft", "-f", "-")
			return err
		})
		if err != nil {
			return false, err
		}
	}
	blocked := a.open(ctx)
	if a.rules != nil {
		a.report.Chains = a.rules.judge(a.way)
	}
	if a.config.Persist {
		start, err = a.persist(ctx)
	}
	return start, errors.Join(blocked, err)
}

// remember writes down how forwarding was, before it is changed.
func (a *applier) remember() error {
	old, err := a.config.readState()
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	s := state{Boot: boot}
	if old != nil && old.Before != nil && (old.Kept || old.Boot == boot) {
		s = *old
	} else {
		before, err := readForwarding()
		if err != nil {
			return err
		}
		s.Before, s.Needing = &before, a.rules.needing()
	}
	s.Way, s.Kept = a.way, s.Kept || a.config.Persist
	if a.dry {
		return nil
	}
	return a.config.writeState(s)
}

// Remove takes back everything that Apply did: files, accepts in other firewalls'
// places, the table, and forwarding if it was off before and nobody else came to
// need it. It goes on after an error and returns all of them; run it again then.
func Remove(ctx context.Context, config Config, dry bool) (Report, error) {
	a := &applier{config: config, dry: dry, report: Report{Done: []string{}, Warnings: []string{}}}
	if os.Geteuid() != 0 {
		return a.report, errNotRoot
	}
	unlock, err := config.lock(ctx)
	if err != nil {
		return a.report, err
	}
	defer unlock()
	old, err := config.readState()
	if err != nil {
		a.warnf("%v", err)
	}
	if a.rules, err = readRules(ctx); err != nil {
		return a.report, err
	}
	errs := []error{a.unpersist(ctx)}
	for _, i := range a.rules.iptables {
		if stale := i.stale(nil); len(stale) > 0 {
			errs = append(errs, a.do(fmt.Sprintf("%s: take out %d rules", i.tool, len(stale)), func() error { return i.remove(ctx, stale) }))
		}
	}
	errs = append(errs, a.removeUFW(ctx, nil), a.removeFirewalld(ctx))
	if there, _ := a.rules.nft.own(Way{}); there {
		errs = append(errs, a.do("nft: delete the table ip "+ownTable, func() error {
			_, err := run(ctx, "", "nft", "delete", "table", "ip", ownTable)
			return err
		}))
	}
	errs = append(errs, a.forget(old))
	if err := errors.Join(errs...); err != nil || dry {
		return a.report, err
	}
	return a.report, config.removeState()
}

// forget puts forwarding back.
func (a *applier) forget(old *state) error {
	if old == nil || old.Before == nil || old.Before.IPForward == "1" {
		return nil
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	now, err := readSetting("ip_forward")
	if err != nil {
		return err
	}
	if now != "1" || !old.Kept && old.Boot != boot {
		return nil
	}
	came := slices.DeleteFunc(a.rules.needing(), func(name string) bool { return slices.Contains(old.Needing, name) })
	if len(came) > 0 {
		a.warnf("net.ipv4.ip_forward was %s before and stays 1, since %s came to this host meanwhile and needs it: sysctl -w net.ipv4.ip_forward=%s puts it back",
			old.Before.IPForward, strings.Join(came, " and "), old.Before.IPForward)
		return nil
	}
	return a.do("set net.ipv4.ip_forward to "+old.Before.IPForward+", as it was", old.Before.restore)
}

// Status is how things are.
type Status struct {
	// InForce: forwarding is on, the masquerading is there and no chain drops.
	InForce     bool    `json:"in_force"`
	Way         Way     `json:"way,omitzero"`
	Forwarding  bool    `json:"forwarding"`
	Masquerades bool    `json:"masquerades"`
	Persistent  bool    `json:"persistent"`
	Chains      []Chain `json:"chains"`
	// Problems are what keeps it from being in force, and what to do.
	Problems []string `json:"problems"`
}

// Show looks and changes nothing. Where the configuration leaves the way open, it
// is the one that was applied.
func Show(ctx context.Context, config Config) (Status, error) {
	if os.Geteuid() != 0 {
		return Status{}, errNotRoot
	}
	old, err := config.readState()
	if err != nil {
		return Status{}, err
	}
	if old != nil {
		if config.Bridge == DefaultBridge {
			config.Bridge = old.Way.Bridge
		}
		if !config.Network.IsValid() {
			config.Network = old.Way.Network
		}
		if config.Uplink == "" {
			config.Uplink = old.Way.Uplink
		}
	}
	way, problems, err := config.resolve()
	if err != nil {
		return Status{}, err
	}
	rules, err := readRules(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Way: way, Chains: []Chain{}, Problems: append([]string{}, problems...), Persistent: exists(config.unitPath()) && exists(config.wantsPath()) && exists(config.sysctlPath())}
	forward, err := readSetting("ip_forward")
	if err != nil {
		return s, err
	}
	s.Forwarding = forward == "1"
	_, s.Masquerades = rules.nft.own(way)
	s.Chains = append(s.Chains, rules.judge(way)...)
	const cure = "run scalehook host apply"
	if !s.Forwarding {
		s.Problems = append(s.Problems, "net.ipv4.ip_forward is "+forward+": "+cure)
	}
	if !s.Masquerades {
		s.Problems = append(s.Problems, fmt.Sprintf("nothing masquerades %v: %s", way, cure))
	}
	s.InForce = s.Forwarding && s.Masquerades
	for _, c := range s.Chains {
		switch c.Verdict {
		case Passes:
		case MayDrop:
			s.Problems = append(s.Problems, fmt.Sprintf("%s drops some of the guests' packets (%s)", c.Name, c.Why))
		case Drops:
			s.Problems = append(s.Problems, fmt.Sprintf("%s drops the guests' packets (%s): %s", c.Name, c.Why, cure))
			s.InForce = false
		}
	}
	return s, nil
}
