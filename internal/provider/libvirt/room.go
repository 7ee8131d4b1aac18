package libvirt

import (
	"context"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

// cloneMinimum is what a linked clone and its seed take at once, in bytes.
const cloneMinimum = 1 << 20

// checkRoom refuses a launch that the host has no room for: its free memory less
// the reserve has to hold the VM's, and the pool's free bytes less the reserve a
// clone. What the host does not tell refuses nothing.
func (p *Provider) checkRoom(ctx context.Context, s *session, id string, t Template) error {
	need, err := t.memory()
	if err != nil {
		return scaling.WithClass(scaling.Permanent, err)
	}
	if err := p.checkMemory(ctx, s, need, p.promise(id, need)); err != nil {
		return err
	}
	available, known, err := poolSpace(ctx, s, t.Pool)
	if err != nil || !known {
		return err
	}
	if reserve := uint64(p.cfg.ReserveDisk); available < reserve || available-reserve < cloneMinimum {
		return scaling.Errorf(scaling.Quota, "pool %q has %v free, and a clone needs %v beside the reserve_disk of %v",
			t.Pool, inMiB(available), inMiB(cloneMinimum), p.cfg.ReserveDisk)
	}
	return nil
}

func (p *Provider) checkMemory(ctx context.Context, s *session, need, promised uint64) error {
	if need == 0 { // its memory is not of what the host counts as free
		return nil
	}
	free, known, err := freeMemory(ctx, s)
	if err != nil || !known {
		return err
	}
	left := free - min(free, promised)
	if reserve := uint64(p.cfg.ReserveMemory); left < reserve || left-reserve < need {
		return scaling.Errorf(scaling.Quota, "the host has %v of memory free (%v of it promised to launches under way), and the VM needs %v beside the reserve_memory of %v",
			inMiB(free), inMiB(promised), inMiB(need), p.cfg.ReserveMemory)
	}
	return nil
}

// inMiB rounds down, so that a message is readable.
func inMiB(bytes uint64) string { return fmt.Sprintf("%dMiB", bytes>>20) }

// freeMemory is what the host could give to new programs, in bytes: free memory,
// buffers and cache.
func freeMemory(ctx context.Context, s *session) (bytes uint64, known bool, err error) {
	stats, err := query(ctx, s, "read the host's free memory", func(_ context.Context, conn *libvirt.Connect) (*libvirt.NodeMemoryStats, error) {
		return conn.GetMemoryStats(libvirt.NODE_MEMORY_STATS_ALL_CELLS, 0)
	})
	if hasCode(err, libvirt.ERR_NO_SUPPORT) {
		return 0, false, nil
	}
	if err != nil || !stats.FreeSet {
		return 0, false, err
	}
	return (stats.Free + stats.Buffers + stats.Cached) << 10, true, nil
}

// poolSpace is what the file system of a pool has free, in bytes.
func poolSpace(ctx context.Context, s *session, name string) (bytes uint64, known bool, err error) {
	info, err := query(ctx, s, fmt.Sprintf("read the free space of pool %q", name),
		func(_ context.Context, conn *libvirt.Connect) (info *libvirt.StoragePoolInfo, err error) {
			err = withPool(conn, name, func(pool *libvirt.StoragePool) error {
				// libvirt looks at the file system when it reads the pool. It refuses
				// while it writes a volume there; what it knew last then has to do.
				if err := pool.Refresh(0); err != nil && classOf(err) != scaling.Temporary && !hasCode(err, libvirt.ERR_NO_SUPPORT) {
					return err
				}
				info, err = pool.GetInfo()
				return err
			})
			return info, err
		})
	if hasCode(err, libvirt.ERR_NO_SUPPORT) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return info.Available, true, nil
}

// memory is what one VM of the template takes of the host, in bytes; 0 if it is
// in huge pages, which the host sets apart from what it counts as free.
func (t Template) memory() (uint64, error) {
	if t.DomainXML == "" {
		return uint64(t.Memory), nil
	}
	own, err := readDomainXML(t.DomainXML)
	if err != nil {
		return 0, err
	}
	if own.Memory == nil || own.MemoryBacking != nil && own.MemoryBacking.MemoryHugePages != nil {
		return 0, nil
	}
	return memoryBytes(*own.Memory), nil
}

// memoryBytes reads a memory element, whose unit is one of libvirt's.
func memoryBytes(m libvirtxml.DomainMemory) uint64 {
	unit := uint64(1 << 10)
	for _, u := range []struct {
		names string
		bytes uint64
	}{
		{"b bytes", 1},
		{"kb", 1e3},
		{"mb", 1e6},
		{"gb", 1e9},
		{"tb", 1e12},
		{"m mib", 1 << 20},
		{"g gib", 1 << 30},
		{"t tib", 1 << 40},
	} {
		for name := range strings.FieldsSeq(u.names) {
			if strings.EqualFold(name, m.Unit) {
				unit = u.bytes
			}
		}
	}
	return uint64(m.Value) * unit
}

// promise counts the memory of a launch from its check until the launch ended, so
// that launches side by side are not all given the same memory. It returns what
// others under way were promised.
func (p *Provider) promise(id string, bytes uint64) (others uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.promised, id)
	for _, b := range p.promised {
		others += b
	}
	p.promised[id] = bytes
	return others
}

// endPromise is for a launch that ended, promised anything or not.
func (p *Provider) endPromise(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.promised, id)
}
