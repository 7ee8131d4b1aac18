package scaling

import (
	"context"
	"net/netip"
)

// MemberState is the administrative state of a pool's member.
type MemberState string

// The states of a member.
const (
	// MemberJoining: in the pool and checked, gets no traffic.
	MemberJoining MemberState = "joining"
	// MemberReady: gets traffic as far as its checks pass.
	MemberReady MemberState = "ready"
	// MemberDraining: gets no new traffic; what it has goes on.
	MemberDraining MemberState = "draining"
	// MemberLeaving: to be removed; what remains of its sessions is cut after a
	// moment. Wished only after a drain ended or its deadline passed.
	MemberLeaving MemberState = "leaving"
)

// Health is what the balancer's own checks say of a member.
type Health string

// The health of a member. Unknown means that no check has ended yet, or that the
// balancer has none.
const (
	HealthUnknown Health = "unknown"
	HealthUp      Health = "up"
	HealthDown    Health = "down"
)

// Member is a wished member of a pool.
type Member struct {
	ID    string // the instance's id; the member's name at the balancer is made from it
	Name  string // the VM's name, for people
	Addr  netip.AddrPort
	State MemberState
}

// Pool is the whole wish for a group's pool.
type Pool struct {
	Group   string
	Members []Member
	// AllowEmpty lets a wish without members remove the last one. It is set for
	// groups with min 0 and for a group that is released; otherwise such a wish is
	// refused, since it is far more often a mistake.
	AllowEmpty bool
}

// MemberStatus is a member as the balancer has it.
type MemberStatus struct {
	ID     string // of our members, else empty
	Server string // its name at the balancer
	Addr   netip.AddrPort
	State  MemberState
	Health Health
	// Sessions counts what is in flight over all workers and sockets; -1 where the
	// balancer cannot tell.
	Sessions int
	// Foreign members were not made by this owner and are never touched.
	Foreign bool
}

// PoolStatus is a pool as the balancer has it.
type PoolStatus struct {
	Members []MemberStatus
}

// Member returns the status of our member with the given id.
func (p PoolStatus) Member(id string) (MemberStatus, bool) {
	for _, m := range p.Members {
		if m.ID == id && !m.Foreign {
			return m, true
		}
	}
	return MemberStatus{}, false
}

// Capabilities says what a balancer can do, so that nobody waits for what never
// comes.
type Capabilities struct {
	Drain    bool // draining keeps what is in flight and takes nothing new
	Sessions bool // Sessions are counted; otherwise a drain lasts to its deadline
	Health   bool // Health is checked; otherwise joining needs another proof
}

// Balancer owns one group's pool. Methods may block until ctx ends and not
// longer, and are not called concurrently for one pool.
type Balancer interface {
	// Observe reports the whole pool, foreign members included. An unreachable
	// balancer is Temporary; a pool that does not exist is Permanent.
	Observe(ctx context.Context) (PoolStatus, error)
	// Apply makes the pool as wished: joins and readies before it drains and
	// removes; our members that are not in the wish leave like MemberLeaving
	// does, without cutting sessions. Idempotent; run again after any
	// interruption; after an error nothing is known, and the caller applies again.
	// It does not wait for checks or for sessions to end: a member that cannot
	// leave yet is left draining or in maintenance and finished by a later Apply.
	Apply(ctx context.Context, want Pool) error
	Capabilities() Capabilities
}
