package exporter

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"libvirt.org/go/libvirt"
)

// domain is what one virDomainGetInfo and the domain's handle say.
type domain struct {
	Name, UUID string
	// ID is the number of this run of the domain, 0 while it is inactive. It
	// changes with every start, which is when a changed definition takes effect.
	ID      uint
	State   libvirt.DomainState
	VCPUs   uint
	MaxKiB  uint64
	CurKiB  uint64
	CPUTime uint64 // nanoseconds
}

// domainStats is one record of the bulk statistics.
type domainStats struct {
	Name, UUID string
	// Stats has no Domain: its handle was freed before the record was returned.
	Stats libvirt.DomainStats
}

// description is the part of a domain's definition that is a label.
type description struct {
	OSType, Arch, Machine string
}

var (
	// errVanished says that a domain was there when it was listed and is not now.
	errVanished = errors.New("domain vanished")
	// errBroken says that the connection is gone: keep-alive gave up on it, or
	// the daemon ended. A new one may serve.
	errBroken = errors.New("connection to libvirt is broken")
)

// session is one open connection to libvirt. Every method blocks for as long
// as libvirt does and cannot be cancelled; none may be called while another is
// running. Only connection calls them. An error is errBroken when the session
// can serve no further call.
type session interface {
	// Domains lists all domains, active and inactive, each with its info. A
	// domain that vanishes meanwhile is left out. An error comes with the
	// domains that could be read. Up to readers infos are asked for at once.
	Domains(readers int) ([]domain, error)
	// Stats reads the bulk statistics of all active domains. A domain that is
	// stuck is in the answer with fewer fields.
	Stats(types libvirt.DomainStatsTypes) ([]domainStats, error)
	// Describe reads the definition of one domain; errVanished if it is gone.
	Describe(uuid string) (description, error)
	// Close ends the connection. It may block like any other call.
	Close() error
}

// libvirtSession is the session over the binding: the only type, with Runtime,
// that calls libvirt.
type libvirtSession struct {
	conn *libvirt.Connect
	// wait is true once the driver has refused the flag NOWAIT, which only
	// drivers without a hypervisor process to wait for do.
	wait bool
}

var _ session = (*libvirtSession)(nil)

// keepAlive is how often and how many times in a row an unanswered keep-alive
// is sent before the connection counts as broken.
type keepAlive struct {
	Seconds int
	Count   uint
}

// openLibvirt opens a read-only connection, with keep-alive if it is remote.
// It blocks as long as libvirt does.
func openLibvirt(uri string, ka keepAlive) (session, error) {
	conn, err := libvirt.NewConnectReadOnly(uri)
	if err != nil {
		return nil, fmt.Errorf("open %s read-only: %w", uri, err)
	}
	if !remote(uri) {
		return &libvirtSession{conn: conn}, nil
	}
	// An in-process driver has no keep-alive and nothing to lose contact with.
	if err := conn.SetKeepAlive(ka.Seconds, ka.Count); err != nil && !errors.Is(err, libvirt.ERR_NO_SUPPORT) {
		_, _ = conn.Close()
		return nil, fmt.Errorf("set keep-alive on %s: %w", uri, err)
	}
	return &libvirtSession{conn: conn}, nil
}

func (s *libvirtSession) Domains(readers int) ([]domain, error) {
	handles, err := s.conn.ListAllDomains(0)
	if err != nil {
		return nil, s.failure("list all domains", err)
	}
	read, failures := readDomains(handles, readers)
	domains := make([]domain, 0, len(handles))
	// QEMU's process can be gone a moment before libvirt knows it; a second
	// look tells a domain that is going from one that cannot be read.
	var errs []error
	for i := range handles {
		d, err := read[i], failures[i]
		if err != nil && !errors.Is(err, libvirt.ERR_NO_DOMAIN) && s.alive() {
			d, err = readDomain(&handles[i])
		}
		switch {
		case err == nil:
			domains = append(domains, d)
		case errors.Is(err, libvirt.ERR_NO_DOMAIN):
		default:
			errs = append(errs, err)
		}
	}
	for i := range handles {
		_ = handles[i].Free()
	}
	if len(errs) > 0 && !s.alive() {
		return nil, s.failure("read domains", errs[0])
	}
	if len(errs) > 0 {
		return domains, &partialError{failed: len(errs), total: len(handles), first: errs[0]}
	}
	return domains, nil
}

// readDomains reads all domains with up to readers calls at once, which the
// connection sends without waiting for the answer to the one before: the
// client, the daemon's reader and its workers are busy at the same time then.
// What was read and what went wrong is in the order of the handles.
func readDomains(handles []libvirt.Domain, readers int) ([]domain, []error) {
	read, failures := make([]domain, len(handles)), make([]error, len(handles))
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(handles) {
				return
			}
			read[i], failures[i] = readDomain(&handles[i])
		}
	}
	var others sync.WaitGroup
	for range min(readers, len(handles)) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	return read, failures
}

// partialError says that some domains could not be read; the others could.
type partialError struct {
	failed, total int
	first         error
}

func (e *partialError) Error() string {
	return fmt.Sprintf("read %d of %d domains, the first: %v", e.failed, e.total, e.first)
}

func (e *partialError) Unwrap() error { return e.first }

func readDomain(h *libvirt.Domain) (domain, error) {
	info, err := h.GetInfo()
	if err != nil {
		return domain{}, fmt.Errorf("get info of a domain: %w", err)
	}
	name, uuid, err := identity(h)
	if err != nil {
		return domain{}, err
	}
	d := domain{
		Name: name, UUID: uuid, State: info.State, VCPUs: info.NrVirtCpu,
		MaxKiB: info.MaxMem, CurKiB: info.Memory, CPUTime: info.CpuTime,
	}
	if active(d.State) {
		// The id is in the handle, no round trip; it fails for a domain that
		// stopped between the listing and the info.
		if id, err := h.GetID(); err == nil {
			d.ID = id
		}
	}
	return d, nil
}

// identity reads name and uuid, both of which are in the handle.
func identity(h *libvirt.Domain) (name, uuid string, err error) {
	if name, err = h.GetName(); err != nil {
		return "", "", fmt.Errorf("get name of a domain: %w", err)
	}
	if uuid, err = h.GetUUIDString(); err != nil {
		return "", "", fmt.Errorf("get uuid of domain %q: %w", name, err)
	}
	return strings.ToValidUTF8(name, "\uFFFD"), uuid, nil
}

func (s *libvirtSession) Stats(types libvirt.DomainStatsTypes) ([]domainStats, error) {
	records, err := s.bulk(types)
	if err != nil {
		return nil, s.failure("get statistics of all domains", err)
	}
	stats := make([]domainStats, 0, len(records))
	for i := range records {
		name, uuid, err := identity(records[i].Domain)
		_ = records[i].Domain.Free()
		records[i].Domain = nil
		if err != nil {
			continue
		}
		stats = append(stats, domainStats{Name: name, UUID: uuid, Stats: records[i]})
	}
	return stats, nil
}

func (s *libvirtSession) bulk(types libvirt.DomainStatsTypes) ([]libvirt.DomainStats, error) {
	flags := libvirt.CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
	if s.wait {
		return s.conn.GetAllDomainStats(nil, types, flags)
	}
	records, err := s.conn.GetAllDomainStats(nil, types, flags|libvirt.CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
	if errors.Is(err, libvirt.ERR_INVALID_ARG) {
		s.wait = true
		return s.conn.GetAllDomainStats(nil, types, flags)
	}
	return records, err
}

func (s *libvirtSession) Describe(uuid string) (description, error) {
	h, err := s.conn.LookupDomainByUUIDString(uuid)
	if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
		return description{}, errVanished
	}
	if err != nil {
		return description{}, s.failure("look up domain "+uuid, err)
	}
	defer func() { _ = h.Free() }()
	text, err := h.GetXMLDesc(0)
	if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
		return description{}, errVanished
	}
	if err != nil {
		return description{}, s.failure("get definition of domain "+uuid, err)
	}
	d, err := parseDescription(text)
	if err != nil {
		return description{}, fmt.Errorf("parse definition of domain %s: %w", uuid, err)
	}
	return d, nil
}

// failure wraps what went wrong and says whether the connection went with it.
func (s *libvirtSession) failure(doing string, err error) error {
	if !s.alive() {
		return fmt.Errorf("%s: %w: %w", doing, errBroken, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// alive asks the client library, which needs no round trip.
func (s *libvirtSession) alive() bool {
	alive, err := s.conn.IsAlive()
	return err == nil && alive
}

func (s *libvirtSession) Close() error {
	if _, err := s.conn.Close(); err != nil {
		return fmt.Errorf("close libvirt connection: %w", err)
	}
	return nil
}

// active says whether a domain has a hypervisor process in this state.
func active(s libvirt.DomainState) bool {
	switch s {
	case libvirt.DOMAIN_SHUTOFF, libvirt.DOMAIN_CRASHED:
		return false
	case libvirt.DOMAIN_NOSTATE, libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED, libvirt.DOMAIN_PAUSED,
		libvirt.DOMAIN_SHUTDOWN, libvirt.DOMAIN_PMSUSPENDED:
		return true
	}
	return true
}

// running says whether a domain's guest gets CPU in this state. "Blocked" is a
// guest that waits for a resource between two time slices (Xen says so), not a
// stopped one. In all other states the counter stands still or reads 0, which
// looks like an idle guest, so it must not be published.
func running(s libvirt.DomainState) bool {
	return s == libvirt.DOMAIN_RUNNING || s == libvirt.DOMAIN_BLOCKED
}
