package simulated

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Options are what a World needs beside its configuration.
type Options struct {
	// Clock tells the time. Default: time.Now.
	Clock func() time.Time
	// Faults is asked at every fault point; see FaultFunc. Default: none.
	Faults FaultFunc
}

// World is a simulated hypervisor with its network and balancer. Its methods are
// safe for concurrent use.
type World struct {
	cfg Config
	now func() time.Time

	mu     sync.Mutex
	faults FaultFunc
	s      state
}

// state is all that a World is; it is saved as JSON.
type state struct {
	Began time.Time        `json:"began"`
	At    time.Time        `json:"at"` // up to here everything is accounted for
	VMs   map[string]*vm   `json:"vms"`
	Disks map[string]disk  `json:"disks"` // by instance id; what was made for VMs that may not exist yet
	Pools map[string]*pool `json:"pools"`
	// Loads are those set by hand; they win over the configured steps.
	Loads map[string]float64 `json:"loads"`
	Next  int                `json:"next"` // number of the next address
	// Public are the public addresses that lead somewhere, with the VM's uuid.
	Public map[string]string `json:"public,omitempty"`
	// Snapshots outlive their VMs; the newest is the last.
	Snapshots []snapshot `json:"snapshots,omitempty"`
}

type disk struct {
	Owner string    `json:"owner"`
	Group string    `json:"group"`
	Name  string    `json:"name"`
	At    time.Time `json:"at"`
}

type mark struct {
	Owner   string    `json:"owner"`
	ID      string    `json:"id"`
	Group   string    `json:"group"`
	UUID    string    `json:"uuid"` // must be the VM's own, else the mark was copied
	Adopted bool      `json:"adopted"`
	At      time.Time `json:"at"`
}

type snapshot struct {
	Owner string    `json:"owner"`
	Group string    `json:"group"`
	VM    string    `json:"vm"` // its uuid
	Name  string    `json:"name"`
	At    time.Time `json:"at"`
}

type vm struct {
	Name     string        `json:"name"`
	UUID     string        `json:"uuid"`
	Mark     *mark         `json:"mark"`
	VCPUs    int           `json:"vcpus"`
	Power    scaling.Power `json:"power"`
	Address  netip.Addr    `json:"address"`
	Started  time.Time     `json:"started"`
	Stops    time.Time     `json:"stops"` // a shutdown under way ends then; zero: none
	Stubborn bool          `json:"stubborn"`
	CPU      float64       `json:"cpu"` // seconds used since it was started
}

// NewWorld makes a World, or finds the one that was saved in the configured
// directory.
func NewWorld(cfg Config, opts Options) (*World, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("simulated world: %w", err)
	}
	w := &World{cfg: cfg, now: opts.Clock, faults: opts.Faults}
	if w.now == nil {
		w.now = time.Now
	}
	found, err := w.restore()
	if err != nil || found {
		return w, err
	}
	now := w.now()
	w.s = state{
		Began: now, At: now, VMs: map[string]*vm{}, Disks: map[string]disk{}, Pools: map[string]*pool{},
		Loads: map[string]float64{},
	}
	for _, f := range cfg.VMs {
		if _, err := w.AddVM(f.Name, f.VCPUs); err != nil {
			return nil, err
		}
	}
	return w, w.save()
}

// AddVM adds a running VM that is nobody's and returns its uuid. vcpus 0 means
// the configured number.
func (w *World) AddVM(name string, vcpus int) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	if w.named(name) != nil {
		return "", scaling.Errorf(scaling.Conflict, "a VM called %s exists", name)
	}
	v := w.define(name, uuidOf("foreign "+name), vcpus)
	w.power(v)
	return v.UUID, w.save()
}

// CloneVM adds a VM with a copy of another one's definition, its mark included,
// as somebody does who clones a VM by hand. It returns the new VM's uuid.
func (w *World) CloneVM(name, of string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	original := w.named(of)
	if original == nil {
		return "", scaling.Errorf(scaling.NotFound, "no VM called %s", of)
	}
	v := w.define(name, uuidOf("clone "+name), original.VCPUs)
	if original.Mark != nil {
		m := *original.Mark
		v.Mark = &m
	}
	return v.UUID, w.save()
}

// RemoveVM takes away a VM, whosever it is, as somebody beside scalehook would.
func (w *World) RemoveVM(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	if v := w.named(name); v != nil {
		delete(w.s.VMs, v.UUID)
	}
	return w.save()
}

// SetPower puts a VM into a power state, as a crash or an operator would.
func (w *World) SetPower(name string, p scaling.Power) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	v := w.named(name)
	if v == nil {
		return scaling.Errorf(scaling.NotFound, "no VM called %s", name)
	}
	if p == scaling.PowerRunning && (v.Power == scaling.PowerStopped || v.Power == scaling.PowerCrashed) {
		w.power(v)
	}
	v.Power = p
	return w.save()
}

// SetStubborn makes a VM's guest ignore requests to stop, or heed them again.
func (w *World) SetStubborn(name string, on bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.named(name)
	if v == nil {
		return scaling.Errorf(scaling.NotFound, "no VM called %s", name)
	}
	v.Stubborn = on
	return w.save()
}

// SetLoad offers a load, in vCPUs, to a group from now on. It ends the configured
// steps of that group.
func (w *World) SetLoad(group string, vcpus float64) error {
	if vcpus < 0 {
		return fmt.Errorf("load of %s: %v vCPUs; not below 0", group, vcpus)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	w.s.Loads[group] = vcpus
	return w.save()
}

// SetFaults replaces the fault hook; nil means no faults.
func (w *World) SetFaults(f FaultFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = f
}

// Snapshots names those of a group's VMs, oldest first.
func (w *World) Snapshots(group string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, s := range w.s.Snapshots {
		if s.Group == group {
			out = append(out, s.Name)
		}
	}
	return out
}

// Leftovers names everything that carries a mark or was made for an instance:
// VMs, disks and members. A test that ends with some has lost them.
func (w *World) Leftovers() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, v := range w.s.VMs {
		if v.Mark != nil && v.Mark.UUID == v.UUID {
			list = append(list, "VM "+v.Name)
		}
	}
	for id := range w.s.Disks {
		list = append(list, "disk of "+id)
	}
	for group, p := range w.s.Pools {
		for _, m := range p.Members {
			if !m.Foreign {
				list = append(list, "member "+m.ID+" of "+group)
			}
		}
	}
	slices.Sort(list)
	return list
}

// uuidOf derives a uuid that is always the same and is nobody's instance id.
func uuidOf(seed string) string {
	sum := sha256.Sum256([]byte("simulated " + seed))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: made by a rule of one's own
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (w *World) named(name string) *vm {
	for _, v := range w.s.VMs {
		if v.Name == name {
			return v
		}
	}
	return nil
}

func (w *World) marked(owner, id string) *vm {
	for _, v := range w.s.VMs {
		if v.ours(owner) && v.Mark.ID == id {
			return v
		}
	}
	return nil
}

// ours reports whether the VM carries a valid mark of the owner.
func (v *vm) ours(owner string) bool {
	return v.Mark != nil && v.Mark.Owner == owner && v.Mark.UUID == v.UUID
}

func (w *World) define(name, uuid string, vcpus int) *vm {
	if vcpus == 0 {
		vcpus = w.cfg.VCPUs
	}
	v := &vm{Name: name, UUID: uuid, VCPUs: vcpus, Power: scaling.PowerStopped, Address: w.address()}
	w.s.VMs[uuid] = v
	return v
}

// address returns the next free address. The hosts of the network outnumber the
// capacity in every configuration that makes sense; past them they are shared,
// as on a network that somebody made too small.
func (w *World) address() netip.Addr {
	taken := map[netip.Addr]bool{}
	for _, v := range w.s.VMs {
		taken[v.Address] = true
	}
	hosts := 1<<(32-w.cfg.Network.Bits()) - 3 // without network, gateway and broadcast
	for range hosts {
		a := w.cfg.Network.Masked().Addr().Next()
		for range w.s.Next%hosts + 1 {
			a = a.Next()
		}
		w.s.Next++
		if !taken[a] {
			return a
		}
	}
	return w.cfg.Network.Masked().Addr().Next().Next()
}

func (w *World) power(v *vm) {
	v.Power, v.Started, v.Stops, v.CPU = scaling.PowerRunning, w.s.At, time.Time{}, 0
}

func (w *World) booted(v *vm, at time.Time) bool {
	return v.Power == scaling.PowerRunning && !at.Before(v.Started.Add(w.cfg.BootTime))
}

// show is the VM as the contract has it. The caller holds the lock.
func (w *World) show(v *vm, owner string) scaling.VM {
	out := scaling.VM{Name: v.Name, UUID: v.UUID, Power: v.Power}
	if v.Power == scaling.PowerRunning && !w.s.At.Before(v.Started.Add(w.cfg.BootTime/2)) {
		out.Addresses = []netip.Addr{v.Address}
	}
	if v.ours(owner) {
		out.ID, out.Group, out.Adopted, out.CreatedAt = v.Mark.ID, v.Mark.Group, v.Mark.Adopted, v.Mark.At
	}
	return out
}

// sorted returns the VMs by name, so that nothing depends on a map's order.
func (w *World) sorted() []*vm {
	return slices.SortedFunc(maps.Values(w.s.VMs), func(a, b *vm) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

var errFull = errors.New("no room for another VM")
