package exporter

import dto "github.com/prometheus/client_model/go"

// family is the index of a metric family in the table of families.
type family int

const (
	familyUp family = iota
	familyScrapeDuration
	familyCollectorDuration
	familyCollectorSuccess
	familyHungCalls
	familyInfo
	familyState
	familyVCPUs
	familyVCPUsMaximum
	familyCPUTime
	familyCPUUser
	familyCPUSystem
	familyVCPUTime
	familyVCPUWait
	familyVCPUDelay
	familyBalloonCurrent
	familyBalloonMaximum
	familyBalloonUnused
	familyBalloonAvailable
	familyBalloonUsable
	familyBalloonRSS
	familyBalloonLastUpdate
	familyBalloonSwapIn
	familyBalloonSwapOut
	familyBalloonMajorFaults
	familyBalloonMinorFaults
	familyBlockReadBytes
	familyBlockWriteBytes
	familyBlockReads
	familyBlockWrites
	familyBlockFlushes
	familyBlockReadTime
	familyBlockWriteTime
	familyBlockFlushTime
	familyBlockCapacity
	familyBlockAllocation
	familyBlockPhysical
	familyInterfaceReceiveBytes
	familyInterfaceReceivePackets
	familyInterfaceReceiveErrors
	familyInterfaceReceiveDrops
	familyInterfaceTransmitBytes
	familyInterfaceTransmitPackets
	familyInterfaceTransmitErrors
	familyInterfaceTransmitDrops
	familyStatsTimedOut
	familyCount
)

// spec is what a family's HELP and TYPE lines say.
type spec struct {
	name, help string
	kind       dto.MetricType
}

// specs returns the table of families. Its index is family.
func specs() [familyCount]spec {
	const g, c = dto.MetricType_GAUGE, dto.MetricType_COUNTER
	return [familyCount]spec{
		familyUp:                {"libvirt_up", "Whether the domains could be listed and read within this scrape.", g},
		familyScrapeDuration:    {"libvirt_scrape_duration_seconds", "How long this scrape took.", g},
		familyCollectorDuration: {"libvirt_scrape_collector_duration_seconds", "How long a collector took. The collectors that share one bulk call of libvirt all say how long that call took.", g},
		familyCollectorSuccess:  {"libvirt_scrape_collector_success", "Whether a collector got everything it asked for within this scrape.", g},
		familyHungCalls:         {"libvirt_scrape_hung_calls", "Calls to libvirt that were left behind as hung and have not returned.", g},

		familyInfo: {"libvirt_domain_info", "What the domain's definition says of its kind, always 1.", g},

		familyState:        {"libvirt_domain_state", "The state that the domain is in, always 1 (virDomainInfo.state). There is no sample for the other states.", g},
		familyVCPUs:        {"libvirt_domain_vcpus", "Virtual CPUs that the domain has now (virDomainInfo.nrVirtCpu).", g},
		familyVCPUsMaximum: {"libvirt_domain_vcpus_maximum", "Virtual CPUs that the running domain can have (vcpu.maximum).", g},

		familyCPUTime:   {"libvirt_domain_cpu_time_seconds_total", "CPU time used by the domain's guest, emulator and helper threads (virDomainInfo.cpuTime). Absent while the domain does not run.", c},
		familyCPUUser:   {"libvirt_domain_cpu_user_seconds_total", "CPU time of the domain in user mode (cpu.user). Absent while the domain does not run.", c},
		familyCPUSystem: {"libvirt_domain_cpu_system_seconds_total", "CPU time of the domain in system mode (cpu.system). Absent while the domain does not run.", c},

		familyVCPUTime:  {"libvirt_domain_vcpu_time_seconds_total", "CPU time of one virtual CPU (vcpu.N.time). Absent while the domain does not run.", c},
		familyVCPUWait:  {"libvirt_domain_vcpu_wait_seconds_total", "Time that one virtual CPU waited for I/O (vcpu.N.wait). Absent while the domain does not run.", c},
		familyVCPUDelay: {"libvirt_domain_vcpu_delay_seconds_total", "Time that one virtual CPU was ready and the host ran something else, also called steal (vcpu.N.delay). Absent while the domain does not run.", c},

		familyBalloonCurrent:     {"libvirt_domain_balloon_current_bytes", "Memory that the domain has now (virDomainInfo.memory).", g},
		familyBalloonMaximum:     {"libvirt_domain_balloon_maximum_bytes", "Memory that the domain can have (virDomainInfo.maxMem).", g},
		familyBalloonUnused:      {"libvirt_domain_balloon_unused_bytes", "Memory that the guest leaves unused (balloon.unused).", g},
		familyBalloonAvailable:   {"libvirt_domain_balloon_available_bytes", "Memory that the guest sees (balloon.available).", g},
		familyBalloonUsable:      {"libvirt_domain_balloon_usable_bytes", "Memory that the guest could use without swapping (balloon.usable).", g},
		familyBalloonRSS:         {"libvirt_domain_balloon_rss_bytes", "Resident memory of the domain's process on the host (balloon.rss).", g},
		familyBalloonLastUpdate:  {"libvirt_domain_balloon_last_update_timestamp_seconds", "When the guest last reported its memory (balloon.last-update).", g},
		familyBalloonSwapIn:      {"libvirt_domain_balloon_swap_in_bytes_total", "Memory that the guest read from swap (balloon.swap_in).", c},
		familyBalloonSwapOut:     {"libvirt_domain_balloon_swap_out_bytes_total", "Memory that the guest wrote to swap (balloon.swap_out).", c},
		familyBalloonMajorFaults: {"libvirt_domain_balloon_major_faults_total", "Page faults of the guest that needed I/O (balloon.major_fault).", c},
		familyBalloonMinorFaults: {"libvirt_domain_balloon_minor_faults_total", "Page faults of the guest that needed no I/O (balloon.minor_fault).", c},

		familyBlockReadBytes:  {"libvirt_domain_block_read_bytes_total", "Bytes read from a block device (block.N.rd.bytes).", c},
		familyBlockWriteBytes: {"libvirt_domain_block_write_bytes_total", "Bytes written to a block device (block.N.wr.bytes).", c},
		familyBlockReads:      {"libvirt_domain_block_reads_total", "Read requests to a block device (block.N.rd.reqs).", c},
		familyBlockWrites:     {"libvirt_domain_block_writes_total", "Write requests to a block device (block.N.wr.reqs).", c},
		familyBlockFlushes:    {"libvirt_domain_block_flushes_total", "Flush requests to a block device (block.N.fl.reqs).", c},
		familyBlockReadTime:   {"libvirt_domain_block_read_time_seconds_total", "Time spent on read requests to a block device (block.N.rd.times).", c},
		familyBlockWriteTime:  {"libvirt_domain_block_write_time_seconds_total", "Time spent on write requests to a block device (block.N.wr.times).", c},
		familyBlockFlushTime:  {"libvirt_domain_block_flush_time_seconds_total", "Time spent on flush requests to a block device (block.N.fl.times).", c},
		familyBlockCapacity:   {"libvirt_domain_block_capacity_bytes", "Size of a block device as the guest sees it (block.N.capacity).", g},
		familyBlockAllocation: {"libvirt_domain_block_allocation_bytes", "Highest offset written to a block device's image (block.N.allocation).", g},
		familyBlockPhysical:   {"libvirt_domain_block_physical_bytes", "Size of a block device's image on the host (block.N.physical).", g},

		familyInterfaceReceiveBytes:    {"libvirt_domain_interface_receive_bytes_total", "Bytes that the guest received on an interface (net.N.rx.bytes).", c},
		familyInterfaceReceivePackets:  {"libvirt_domain_interface_receive_packets_total", "Packets that the guest received on an interface (net.N.rx.pkts).", c},
		familyInterfaceReceiveErrors:   {"libvirt_domain_interface_receive_errors_total", "Errors while the guest received on an interface (net.N.rx.errs).", c},
		familyInterfaceReceiveDrops:    {"libvirt_domain_interface_receive_drops_total", "Packets to the guest that were dropped on an interface (net.N.rx.drop).", c},
		familyInterfaceTransmitBytes:   {"libvirt_domain_interface_transmit_bytes_total", "Bytes that the guest sent on an interface (net.N.tx.bytes).", c},
		familyInterfaceTransmitPackets: {"libvirt_domain_interface_transmit_packets_total", "Packets that the guest sent on an interface (net.N.tx.pkts).", c},
		familyInterfaceTransmitErrors:  {"libvirt_domain_interface_transmit_errors_total", "Errors while the guest sent on an interface (net.N.tx.errs).", c},
		familyInterfaceTransmitDrops:   {"libvirt_domain_interface_transmit_drops_total", "Packets from the guest that were dropped on an interface (net.N.tx.drop).", c},

		familyStatsTimedOut: {"libvirt_domain_stats_timed_out", "Whether the running domain's hypervisor process was busy or hung, so that its bulk statistics are incomplete.", g},
	}
}
