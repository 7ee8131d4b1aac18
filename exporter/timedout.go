package exporter

import (
	"slices"

	"libvirt.org/go/libvirt"
)

// timedOut says whether libvirt skipped what it has to ask the domain's
// hypervisor process for, because the process was busy or hung. known is false
// where it cannot be told: for a domain that is not active, and when no
// collector is on that asks the process anything.
func timedOut(on Collectors, s *libvirt.DomainStats) (stuck, known bool) {
	if s.State == nil || !s.State.StateSet || !active(s.State.State) {
		return false, false
	}
	switch {
	case on.Balloon && s.Balloon != nil:
		return !s.Balloon.RssSet, true
	case on.Block && len(s.Block) > 0:
		return !slices.ContainsFunc(s.Block, func(b libvirt.DomainStatsBlock) bool { return b.RdReqsSet }), true
	case on.VCPU && len(s.Vcpu) > 0:
		return !slices.ContainsFunc(s.Vcpu, func(v libvirt.DomainStatsVcpu) bool { return v.HaltedSet }), true
	}
	return false, false
}
