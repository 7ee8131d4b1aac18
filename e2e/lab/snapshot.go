package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"libvirt.org/go/libvirt"
)

// Snapshot is what exists in a lab at one moment, as sorted lists, for the
// assertion that nothing was left behind.
type Snapshot struct {
	Domains []string // name, defined or running
	Volumes []string // pool/name, as libvirt lists them after a refresh
	Files   []string // below the pool's folder and libvirt's folder of NVRAM files
	Leases  []string // address of a DHCP lease and its host name
	Servers []string // haproxy/backend/server
	Guests  []string // VM processes
}

// Snapshot lists what exists. A listing that fails is an error: nothing is
// ever taken for gone because it could not be listed.
func (l *Lab) Snapshot(ctx context.Context) (Snapshot, error) {
	var s Snapshot
	err := l.withConnect(func(c *libvirt.Connect) error {
		return errors.Join(addDomains(&s, c), addVolumes(&s, c), addLeases(&s, c))
	})
	errs := []error{err, addFiles(&s, l.Path(PoolName)), addFiles(&s, l.Path("var", "qemu", "nvram"))}
	l.mu.Lock()
	haproxies := slices.Clone(l.haproxies)
	l.mu.Unlock()
	for _, h := range haproxies {
		select {
		case <-h.Done():
			continue
		default:
		}
		servers, err := h.Servers(ctx)
		errs = append(errs, err)
		for _, name := range servers {
			s.Servers = append(s.Servers, h.Name+"/"+name)
		}
	}
	for _, pid := range guestProcesses(l.ns.pid()) {
		s.Guests = append(s.Guests, guestName(pid))
	}
	for _, list := range []*[]string{&s.Domains, &s.Volumes, &s.Files, &s.Leases, &s.Servers, &s.Guests} {
		slices.Sort(*list)
	}
	if err := errors.Join(errs...); err != nil {
		return Snapshot{}, fmt.Errorf("list what is in the lab: %w", err)
	}
	return s, nil
}

func addDomains(s *Snapshot, c *libvirt.Connect) error {
	domains, err := c.ListAllDomains(0)
	if err != nil {
		return fmt.Errorf("list domains: %w", err)
	}
	for i := range domains {
		name, err := domains[i].GetName()
		if err != nil {
			return fmt.Errorf("list domains: %w", err)
		}
		s.Domains = append(s.Domains, name)
		_ = domains[i].Free()
	}
	return nil
}

func addVolumes(s *Snapshot, c *libvirt.Connect) error {
	pools, err := c.ListAllStoragePools(libvirt.CONNECT_LIST_STORAGE_POOLS_ACTIVE)
	if err != nil {
		return fmt.Errorf("list pools: %w", err)
	}
	for i := range pools {
		pool := &pools[i]
		name, err := pool.GetName()
		if err != nil {
			return fmt.Errorf("list pools: %w", err)
		}
		if err := pool.Refresh(0); err != nil {
			return fmt.Errorf("refresh pool %s: %w", name, err)
		}
		volumes, err := pool.ListAllStorageVolumes(0)
		if err != nil {
			return fmt.Errorf("list volumes of pool %s: %w", name, err)
		}
		for j := range volumes {
			vol, err := volumes[j].GetName()
			if err != nil {
				return fmt.Errorf("list volumes of pool %s: %w", name, err)
			}
			s.Volumes = append(s.Volumes, name+"/"+vol)
			_ = volumes[j].Free()
		}
		_ = pool.Free()
	}
	return nil
}

func addLeases(s *Snapshot, c *libvirt.Connect) error {
	n, err := c.LookupNetworkByName(NetworkName)
	if err != nil {
		return fmt.Errorf("look up network %s: %w", NetworkName, err)
	}
	defer n.Free()
	leases, err := n.GetDHCPLeases()
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, lease := range leases {
		s.Leases = append(s.Leases, lease.IPaddr+" "+lease.Hostname)
	}
	return nil
}

func addFiles(s *Snapshot, dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			s.Files = append(s.Files, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list files: %w", err)
	}
	return nil
}

// guestName reads a VM's name from its command line.
func guestName(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return fmt.Sprintf("pid %d", pid)
	}
	for arg := range strings.SplitSeq(string(raw), "\x00") {
		if rest, ok := strings.CutPrefix(arg, "guest="); ok {
			name, _, _ := strings.Cut(rest, ",")
			return name
		}
	}
	return fmt.Sprintf("pid %d", pid)
}

// Left lists what is in s and was not in before, one line each. Leases are
// left out: one that a guest could not give back runs out by itself.
func (s Snapshot) Left(before Snapshot) []string {
	var out []string
	for _, k := range []struct {
		kind        string
		now, before []string
	}{
		{"domain", s.Domains, before.Domains},
		{"volume", s.Volumes, before.Volumes},
		{"file", s.Files, before.Files},
		{"server", s.Servers, before.Servers},
		{"VM process", s.Guests, before.Guests},
	} {
		for _, name := range k.now {
			if !slices.Contains(k.before, name) {
				out = append(out, k.kind+" "+name)
			}
		}
	}
	return out
}
