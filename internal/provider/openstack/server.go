package openstack

import (
	"cmp"
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// server is what we read of one of Nova's. gophercloud's own type lacks which
// volumes go with it.
type server struct {
	ID        string               `json:"id"`
	Name      string               `json:"name"`
	Status    string               `json:"status"`
	Created   time.Time            `json:"created"`
	TaskState string               `json:"OS-EXT-STS:task_state"`
	Power     int                  `json:"OS-EXT-STS:power_state"`
	Metadata  map[string]string    `json:"metadata"`
	Tags      []string             `json:"tags"`
	Addresses map[string][]address `json:"addresses"`
	Volumes   []attachment         `json:"os-extended-volumes:volumes_attached"`
	Fault     struct {
		Message string `json:"message"`
	} `json:"fault"`
}

// address is one of a server's as Nova remembers it, by network.
type address struct {
	IP   string `json:"addr"`
	MAC  string `json:"OS-EXT-IPS-MAC:mac_addr"`
	Kind string `json:"OS-EXT-IPS:type"` // fixed or floating
}

// attachment is a volume of a server.
type attachment struct {
	ID   string `json:"id"`
	Goes bool   `json:"delete_on_termination"`
}

// Nova's states of a server that are told apart.
const (
	statusActive    = "ACTIVE"
	statusBuild     = "BUILD"
	statusDeleted   = "DELETED"
	statusError     = "ERROR"
	statusOff       = "SHUTOFF"
	statusPaused    = "PAUSED"
	statusSoft      = "SOFT_DELETED"
	statusSuspended = "SUSPENDED"
	// statusUnknown is that of a server in a cell that is down.
	statusUnknown = "UNKNOWN"
)

// Nova's power states that are told apart.
const (
	powerRunning   = 1
	powerPaused    = 3
	powerOff       = 4
	powerCrashed   = 6
	powerSuspended = 7
)

// metadataID is the metadata that every server of ours is made with. Tags can be
// put on any server; this was there from the start.
const metadataID = "scalehook-id"

var uuidRE = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// gone reports whether the server only waits to be forgotten.
func (s *server) gone() bool { return s.Status == statusDeleted || s.Status == statusSoft }

// mark returns the server's mark if it is valid: complete, and its own. One that
// was copied from another server names that.
func (s *server) mark() (cloud.Mark, bool) {
	m, ok := cloud.ParseMark(s.Tags)
	return m, ok && m.Group != "" && uuidRE.MatchString(m.ID) && (m.UUID == "" || m.UUID == s.ID)
}

// is reports whether the server is that instance of the owner.
func (s *server) is(owner cloud.Owner, id string) bool {
	m, ok := s.mark()
	return ok && m.Owner == owner && m.ID == id
}

// ours reports whether the server is an instance of the owner.
func (s *server) ours(owner cloud.Owner) bool {
	m, ok := s.mark()
	return ok && m.Owner == owner
}

// sealed reports whether the mark names the server, so that no copy of it counts.
func (s *server) sealed() bool {
	m, ok := s.mark()
	return ok && m.UUID == s.ID
}

// power says whether the server's guest runs. One that failed to build never ran;
// one that failed at something later may still run.
func (s *server) power() scaling.Power {
	switch s.Status {
	case statusBuild, statusUnknown:
		return scaling.PowerUnknown
	case statusError:
		if s.Power == powerRunning {
			return scaling.PowerUnknown
		}
		return scaling.PowerCrashed
	case statusSuspended, "SHELVED", "SHELVED_OFFLOADED":
		return scaling.PowerStopped // its memory is on a disk or nowhere
	case statusPaused:
		return scaling.PowerPaused
	}
	switch s.Power {
	case powerRunning:
		return scaling.PowerRunning
	case powerPaused:
		return scaling.PowerPaused
	case powerOff, powerSuspended:
		return scaling.PowerStopped
	case powerCrashed:
		return scaling.PowerCrashed
	}
	if s.Status == statusOff {
		return scaling.PowerStopped
	}
	if s.Status == statusActive {
		return scaling.PowerRunning
	}
	return scaling.PowerUnknown
}

// fixed returns the server's own addresses: those of the networks named first, IPv4
// before IPv6.
func (s *server) fixed(networks []string) []netip.Addr {
	type place struct {
		network int
		name    string
		ip      netip.Addr
	}
	var all []place
	for name, list := range s.Addresses {
		rank := slices.Index(networks, name)
		if rank < 0 {
			rank = len(networks)
		}
		for _, a := range list {
			if ip, err := netip.ParseAddr(a.IP); err == nil && a.Kind != "floating" && !ip.IsLinkLocalUnicast() {
				all = append(all, place{rank, name, ip})
			}
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(a.network-b.network, strings.Compare(a.name, b.name), a.ip.Compare(b.ip))
	})
	var out []netip.Addr
	for _, p := range all {
		out = append(out, p.ip)
	}
	return out
}

// failure is what Nova says of a server in ERROR. That no host has room is Quota.
// The same call never works again for this instance: its server has to go first.
func (s *server) failure() error {
	text := cmp.Or(strings.TrimSpace(s.Fault.Message), "Nova does not say why")
	class := scaling.Permanent
	low := strings.ToLower(text)
	for _, hint := range []string{"no valid host", "quota", "no more ip addresses", "no fixed ip addresses", "maximum number of ports", "not enough"} {
		if strings.Contains(low, hint) {
			class = scaling.Quota
		}
	}
	return scaling.Errorf(class, "server %s is in ERROR: %s", s.ID, text)
}

// get returns the server of that uuid. NotFound only if Nova itself says so.
func (p *Provider) get(ctx context.Context, uuid string) (*server, error) {
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return nil, err
	}
	var s server
	if err := servers.Get(ctx, client, uuid).ExtractInto(&s); err != nil {
		return nil, cloud.Error(err, "get server %s", uuid)
	}
	if s.gone() {
		return nil, scaling.Errorf(scaling.NotFound, "server %s is deleted", uuid)
	}
	return &s, nil
}

// query lists servers whole, through all pages.
func (p *Provider) query(ctx context.Context, opts servers.ListOpts, what string) ([]*server, error) {
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return nil, err
	}
	all, err := cloud.Pages(ctx, servers.List(client, opts), extractServers, "%s", what)
	return slices.DeleteFunc(all, (*server).gone), err
}

func extractServers(page pagination.Page) ([]*server, error) {
	var all []*server
	err := servers.ExtractServersInto(page, &all)
	return all, err
}

// called returns the project's servers of exactly that name.
func (p *Provider) called(ctx context.Context, name string) ([]*server, error) {
	// Nova takes the name for a regular expression.
	all, err := p.query(ctx, servers.ListOpts{Name: "^" + regexp.QuoteMeta(name) + "$"}, "look for servers called "+name)
	return slices.DeleteFunc(all, func(s *server) bool { return s.Name != name }), err
}

// instance returns the servers with a valid mark of the instance, the one that it
// is first: there may be a second one if the answer to the call that made the first
// was lost. One whose mark names it comes before others, then the oldest.
func (p *Provider) instance(ctx context.Context, id, name string) ([]*server, error) {
	all, err := p.query(ctx, servers.ListOpts{Tags: cloud.Mark{Owner: p.owner, ID: id}.Query()}, "look for the servers of instance "+id)
	if err != nil {
		return nil, err
	}
	if name != "" {
		// A server that is not scheduled yet may be missing from a listing by tags.
		more, err := p.called(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, s := range more {
			if !slices.ContainsFunc(all, func(o *server) bool { return o.ID == s.ID }) {
				all = append(all, s)
			}
		}
	}
	all = slices.DeleteFunc(all, func(s *server) bool { return !s.is(p.owner, id) })
	slices.SortFunc(all, rank)
	return all, nil
}

// rank sorts the servers of one instance: the one that it is comes first.
func rank(a, b *server) int {
	if a.sealed() != b.sealed() {
		if a.sealed() {
			return -1
		}
		return 1
	}
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
}

// find returns the server that ref names: by its uuid, else by the instance's mark.
// Whether it carries a valid mark, the caller has to check if a uuid was given.
func (p *Provider) find(ctx context.Context, ref scaling.Ref) (*server, error) {
	if ref.UUID != "" {
		return p.get(ctx, ref.UUID)
	}
	all, err := p.instance(ctx, ref.ID, "")
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, scaling.Errorf(scaling.NotFound, "no server is marked as instance %s", ref.ID)
	}
	return all[0], nil
}

// pause waits between two looks at something that changes by itself.
func pause(ctx context.Context) error {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// poll is how often something that changes by itself is looked at.
const poll = 500 * time.Millisecond
