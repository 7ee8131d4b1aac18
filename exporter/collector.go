package exporter

import (
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"libvirt.org/go/libvirt"
)

// collector is a part of a scrape that reports its own success and duration.
type collector int

const (
	collectorDomain collector = iota
	collectorInfo
	collectorCPU
	collectorVCPU
	collectorBalloon
	collectorBlock
	collectorInterface
	collectorCount
)

func (c collector) String() string {
	return [collectorCount]string{"domain", "info", "cpu", "vcpu", "balloon", "block", "interface"}[c]
}

// bulk says whether the collector lives on the bulk statistics.
func (c collector) bulk() bool { return c != collectorDomain && c != collectorInfo }

func (e *Exporter) enabled(c collector) bool {
	on := e.config.Collectors
	return [collectorCount]bool{true, on.Info, on.CPU, on.VCPU, on.Balloon, on.Block, on.Interface}[c]
}

// states are libvirt's domain states by number, as the label says them.
func states() [8]string {
	return [8]string{
		libvirt.DOMAIN_NOSTATE:     "nostate",
		libvirt.DOMAIN_RUNNING:     "running",
		libvirt.DOMAIN_BLOCKED:     "blocked",
		libvirt.DOMAIN_PAUSED:      "paused",
		libvirt.DOMAIN_SHUTDOWN:    "shutdown",
		libvirt.DOMAIN_SHUTOFF:     "shutoff",
		libvirt.DOMAIN_CRASHED:     "crashed",
		libvirt.DOMAIN_PMSUSPENDED: "pmsuspended",
	}
}

// fixedLabels are the labels and label names that do not depend on a domain.
type fixedLabels struct {
	arch, device, domain, machine, osType, uuid, vcpu *string

	states      [8]*dto.LabelPair
	collectors  [collectorCount]labels
	connections [3]labels
}

func newFixedLabels() fixedLabels {
	f := fixedLabels{
		arch: new("arch"), device: new("device"), domain: new("domain"), machine: new("machine"),
		osType: new("os_type"), uuid: new("uuid"), vcpu: new("vcpu"),
	}
	for i, s := range states() {
		f.states[i] = &dto.LabelPair{Name: new("state"), Value: &s}
	}
	for c := range collectorCount {
		f.collectors[c] = labels{{Name: new("collector"), Value: new(c.String())}}
	}
	for i, name := range []string{"domain", "stats", "info"} {
		f.connections[i] = labels{{Name: new("connection"), Value: &name}}
	}
	return f
}

const (
	nanoseconds = 1e9 // in a second
	kibibyte    = 1024
)

// writeDomain writes what the cheap pass knows of one domain.
func (e *Exporter) writeDomain(p *page, d *domain) {
	name, uuid := p.pair(e.fixed.domain, d.Name), p.pair(e.fixed.uuid, d.UUID)
	l := p.labels(name, uuid)
	// A state that libvirt has and this table has not is absent, not nostate.
	if i := int(d.State); i >= 0 && i < len(e.fixed.states) {
		p.add(familyState, p.labels(name, e.fixed.states[i], uuid), 1)
	}
	p.add(familyVCPUs, l, float64(d.VCPUs))
	p.add(familyBalloonCurrent, l, float64(d.CurKiB)*kibibyte)
	p.add(familyBalloonMaximum, l, float64(d.MaxKiB)*kibibyte)
	if running(d.State) {
		p.add(familyCPUTime, l, float64(d.CPUTime)/nanoseconds)
	}
}

// writeDescriptions writes what is known of the definitions of these domains.
func (e *Exporter) writeDescriptions(p *page, domains []domain) {
	for i := range domains {
		d := &domains[i]
		about, ok := e.descriptions.get(d.UUID)
		if !ok {
			continue
		}
		p.add(familyInfo, p.labels(
			p.pair(e.fixed.arch, about.Arch),
			p.pair(e.fixed.domain, d.Name),
			p.pair(e.fixed.machine, about.Machine),
			p.pair(e.fixed.osType, about.OSType),
			p.pair(e.fixed.uuid, d.UUID),
		), 1)
	}
}

// writeStats writes the bulk statistics of one domain.
func (e *Exporter) writeStats(p *page, d *domainStats) {
	on := e.config.Collectors
	name, uuid := p.pair(e.fixed.domain, d.Name), p.pair(e.fixed.uuid, d.UUID)
	l := p.labels(name, uuid)
	s := &d.Stats
	runs := s.State != nil && s.State.StateSet && running(s.State.State)
	if on.CPU && runs && s.Cpu != nil {
		p.addIf(s.Cpu.UserSet, familyCPUUser, l, float64(s.Cpu.User)/nanoseconds)
		p.addIf(s.Cpu.SystemSet, familyCPUSystem, l, float64(s.Cpu.System)/nanoseconds)
	}
	if on.VCPU {
		e.writeVCPUs(p, s.Vcpu, name, uuid, runs)
		p.addIf(len(s.Vcpu) > 0, familyVCPUsMaximum, l, float64(len(s.Vcpu)))
	}
	if on.Balloon && s.Balloon != nil {
		writeBalloon(p, s.Balloon, l)
	}
	if on.Block {
		e.writeBlocks(p, s.Block, name, uuid)
	}
	if on.Interface {
		e.writeInterfaces(p, s.Net, name, uuid)
	}
	if stuck, known := timedOut(on, s); known {
		p.add(familyStatsTimedOut, l, value(stuck))
	}
}

func (e *Exporter) writeVCPUs(p *page, vcpus []libvirt.DomainStatsVcpu, name, uuid *dto.LabelPair, runs bool) {
	if !runs {
		return
	}
	for i := range vcpus {
		v := &vcpus[i]
		if !v.TimeSet && !v.WaitSet && !v.DelaySet {
			continue
		}
		l := p.labels(name, uuid, p.pair(e.fixed.vcpu, strconv.Itoa(i)))
		p.addIf(v.TimeSet, familyVCPUTime, l, float64(v.Time)/nanoseconds)
		p.addIf(v.WaitSet, familyVCPUWait, l, float64(v.Wait)/nanoseconds)
		p.addIf(v.DelaySet, familyVCPUDelay, l, float64(v.Delay)/nanoseconds)
	}
}

// writeBalloon leaves out current and maximum: the cheap pass has them.
func writeBalloon(p *page, b *libvirt.DomainStatsBalloon, l labels) {
	p.addIf(b.UnusedSet, familyBalloonUnused, l, float64(b.Unused)*kibibyte)
	p.addIf(b.AvailableSet, familyBalloonAvailable, l, float64(b.Available)*kibibyte)
	p.addIf(b.UsableSet, familyBalloonUsable, l, float64(b.Usable)*kibibyte)
	p.addIf(b.RssSet, familyBalloonRSS, l, float64(b.Rss)*kibibyte)
	// 0 is a guest that never reported, not the year 1970.
	p.addIf(b.LastUpdateSet && b.LastUpdate > 0, familyBalloonLastUpdate, l, float64(b.LastUpdate))
	p.addIf(b.SwapInSet, familyBalloonSwapIn, l, float64(b.SwapIn)*kibibyte)
	p.addIf(b.SwapOutSet, familyBalloonSwapOut, l, float64(b.SwapOut)*kibibyte)
	p.addIf(b.MajorFaultSet, familyBalloonMajorFaults, l, float64(b.MajorFault))
	p.addIf(b.MinorFaultSet, familyBalloonMinorFaults, l, float64(b.MinorFault))
}

func (e *Exporter) writeBlocks(p *page, blocks []libvirt.DomainStatsBlock, name, uuid *dto.LabelPair) {
	for i := range blocks {
		b := &blocks[i]
		// Two samples of one series would spoil the whole scrape.
		same := func(o libvirt.DomainStatsBlock) bool { return o.Name == b.Name }
		if !b.NameSet || b.Name == "" || slices.ContainsFunc(blocks[:i], same) {
			continue
		}
		l := p.labels(p.pair(e.fixed.device, b.Name), name, uuid)
		p.addIf(b.RdBytesSet, familyBlockReadBytes, l, float64(b.RdBytes))
		p.addIf(b.WrBytesSet, familyBlockWriteBytes, l, float64(b.WrBytes))
		p.addIf(b.RdReqsSet, familyBlockReads, l, float64(b.RdReqs))
		p.addIf(b.WrReqsSet, familyBlockWrites, l, float64(b.WrReqs))
		p.addIf(b.FlReqsSet, familyBlockFlushes, l, float64(b.FlReqs))
		p.addIf(b.RdTimesSet, familyBlockReadTime, l, float64(b.RdTimes)/nanoseconds)
		p.addIf(b.WrTimesSet, familyBlockWriteTime, l, float64(b.WrTimes)/nanoseconds)
		p.addIf(b.FlTimesSet, familyBlockFlushTime, l, float64(b.FlTimes)/nanoseconds)
		p.addIf(b.CapacitySet, familyBlockCapacity, l, float64(b.Capacity))
		p.addIf(b.AllocationSet, familyBlockAllocation, l, float64(b.Allocation))
		p.addIf(b.PhysicalSet, familyBlockPhysical, l, float64(b.Physical))
	}
}

func (e *Exporter) writeInterfaces(p *page, nets []libvirt.DomainStatsNet, name, uuid *dto.LabelPair) {
	for i := range nets {
		n := &nets[i]
		same := func(o libvirt.DomainStatsNet) bool { return o.Name == n.Name }
		if !n.NameSet || n.Name == "" || slices.ContainsFunc(nets[:i], same) {
			continue
		}
		l := p.labels(p.pair(e.fixed.device, n.Name), name, uuid)
		p.addIf(n.RxBytesSet, familyInterfaceReceiveBytes, l, float64(n.RxBytes))
		p.addIf(n.RxPktsSet, familyInterfaceReceivePackets, l, float64(n.RxPkts))
		p.addIf(n.RxErrsSet, familyInterfaceReceiveErrors, l, float64(n.RxErrs))
		p.addIf(n.RxDropSet, familyInterfaceReceiveDrops, l, float64(n.RxDrop))
		p.addIf(n.TxBytesSet, familyInterfaceTransmitBytes, l, float64(n.TxBytes))
		p.addIf(n.TxPktsSet, familyInterfaceTransmitPackets, l, float64(n.TxPkts))
		p.addIf(n.TxErrsSet, familyInterfaceTransmitErrors, l, float64(n.TxErrs))
		p.addIf(n.TxDropSet, familyInterfaceTransmitDrops, l, float64(n.TxDrop))
	}
}
