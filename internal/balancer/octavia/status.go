package octavia

import (
	"net/netip"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/scalehook/scalehook/internal/scaling"
)

// What Octavia says of provisioning: whether an order was carried out.
const (
	active        = "ACTIVE"
	pendingCreate = "PENDING_CREATE"
	pendingDelete = "PENDING_DELETE"
	failed        = "ERROR"
)

// traits say what is to be thought of a pool's members.
type traits struct {
	// zero: a member of weight 0 gets nothing new.
	zero bool
	// checked: the pool has a health monitor, and what it says can be believed.
	checked bool
	// weight is that of a member in service.
	weight int
}

// found is a member as Octavia has it.
type found struct {
	uuid   string
	name   string
	id     string // the instance's; empty for a foreign member
	addr   netip.AddrPort
	weight int
	up     bool // its admin state
	status string
	health scaling.Health
}

// ours reports whether we made it.
func (f found) ours() bool { return f.id != "" }

// leaves reports whether Octavia is deleting it.
func (f found) leaves() bool { return f.status == pendingDelete }

// serves reports whether new traffic may come to the member as far as its checks
// pass.
func (f found) serves(t traits) bool { return !t.zero || f.up && f.weight > 0 }

// healthOf says what an operating status means. A member of weight 0 whose checks
// pass reads DRAINING, newcomers too. Proved false says that the first check may not
// have been reported yet: until then a load balancer takes a member for healthy.
//
//	ONLINE, DRAINING  its checks pass, as of the last report
//	ERROR             they fail
//	NO_MONITOR        nobody checks it
//	OFFLINE           it is switched off, or nothing was ever reported of it
func healthOf(operating string, checked, proved bool) scaling.Health {
	switch {
	case !checked:
	case operating == "ERROR":
		return scaling.HealthDown
	case (operating == "ONLINE" || operating == "DRAINING") && proved:
		return scaling.HealthUp
	}
	return scaling.HealthUnknown
}

// stateOf says in which state a member of ours, or a foreign one, is. At Octavia a
// joining member is like a draining one, and only the last wish tells them apart.
func stateOf(f found, t traits, joins bool) scaling.MemberState {
	switch {
	case f.leaves():
		return scaling.MemberLeaving
	case f.serves(t):
		return scaling.MemberReady
	case !f.up:
		return scaling.MemberLeaving
	case joins:
		return scaling.MemberJoining
	}
	return scaling.MemberDraining
}

// history is what was seen of the members' health, by their uuids.
type history map[string]seen

type seen struct {
	since time.Time // when it was first seen to be there
	down  bool      // its checks were seen to fail
}

// startAllowance is how long a load balancer may take to learn of a member that the
// service has: longer than a change takes.
const startAllowance = time.Minute

// proved reports whether the reported health of a member can be that of a check
// that ended: it was seen failing before, or has been there for longer than settle,
// by our clock, or, after a start of scalehook, by that of the service: created and
// date are its own.
func (h history) proved(m pools.Member, now, date time.Time, settle time.Duration) bool {
	if m.ProvisioningStatus == pendingCreate {
		return false
	}
	s, known := h[m.ID]
	if !known {
		s.since = now
	}
	if m.OperatingStatus == "ERROR" {
		s.down = true
	}
	h[m.ID] = s
	return s.down || now.Sub(s.since) >= settle ||
		!date.IsZero() && !m.CreatedAt.IsZero() && date.Sub(m.CreatedAt) >= settle+startAllowance
}

// forget drops what is there no more.
func (h history) forget(members []pools.Member) {
	there := map[string]bool{}
	for _, m := range members {
		there[m.ID] = true
	}
	for uuid := range h {
		if !there[uuid] {
			delete(h, uuid)
		}
	}
}

// addrOf is where a member serves; invalid where Octavia's text is no address.
func addrOf(m pools.Member) netip.AddrPort {
	ip, err := netip.ParseAddr(m.Address)
	if err != nil || m.ProtocolPort < 0 || m.ProtocolPort > 65535 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(m.ProtocolPort))
}
