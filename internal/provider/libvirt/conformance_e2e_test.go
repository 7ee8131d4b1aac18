//go:build e2e

package libvirt_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/scaling/scalingtest"
)

// makeForeign defines a shut-off VM with a disk of its own, as anybody might have.
func (h *hostTest) makeForeign(t *testing.T, conn *golibvirt.Connect, name string) string {
	t.Helper()
	pool, err := conn.LookupStoragePoolByName(lab.PoolName)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Free()
	vol, err := pool.StorageVolCreateXML(fmt.Sprintf(
		`<volume><name>%s.qcow2</name><capacity unit='MiB'>1</capacity><target><format type='qcow2'/></target></volume>`, name), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer vol.Free()
	path, err := vol.GetPath()
	if err != nil {
		t.Fatal(err)
	}
	dom, err := conn.DomainDefineXML(fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
<interface type='network'><source network='%s'/></interface></devices></domain>`, name, path, lab.NetworkName))
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	uuid, err := dom.GetUUIDString()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if dom, err := conn.LookupDomainByName(name); err == nil {
			dom.Undefine()
			dom.Free()
		}
		h.deleteVolume(conn, name+".qcow2")
	})
	return uuid
}

func (h *hostTest) deleteVolume(conn *golibvirt.Connect, name string) {
	pool, err := conn.LookupStoragePoolByName(lab.PoolName)
	if err != nil {
		return
	}
	defer pool.Free()
	if vol, err := pool.LookupStorageVolByName(name); err == nil {
		vol.Delete(0)
		vol.Free()
	}
}

func (h *hostTest) hasVolume(conn *golibvirt.Connect, name string) bool {
	pool, err := conn.LookupStoragePoolByName(lab.PoolName)
	if err != nil {
		return false
	}
	defer pool.Free()
	vol, err := pool.LookupStorageVolByName(name)
	if err != nil {
		return false
	}
	vol.Free()
	return true
}

// mark returns a domain's mark, with or without proof; empty if it has none.
func mark(conn *golibvirt.Connect, name string) (string, error) {
	dom, err := conn.LookupDomainByName(name)
	if err != nil {
		return "", err
	}
	defer dom.Free()
	text, err := dom.GetMetadata(golibvirt.DOMAIN_METADATA_ELEMENT, libvirt.MarkURI, golibvirt.DOMAIN_AFFECT_CONFIG)
	if e, ok := errors.AsType[golibvirt.Error](err); ok && e.Code == golibvirt.ERR_NO_DOMAIN_METADATA {
		return "", nil
	}
	return text, err
}

func TestConformance(t *testing.T) {
	h := startHost(t, "prv-suite")
	conn := h.connect(t)
	scalingtest.Provider(t, func(t *testing.T) scalingtest.ProviderUnderTest {
		before := h.before(t.Context(), t)
		return scalingtest.ProviderUnderTest{
			Provider: h.p, Group: "web", Prefix: "web",
			BootLimit: 4 * time.Minute, StopLimit: 2 * time.Minute,
			Foreign: func(t *testing.T, name string) string { return h.makeForeign(t, conn, name) },
			Intact: func(_ *testing.T, name string) error {
				text, err := mark(conn, name)
				if err == nil && text != "" {
					err = fmt.Errorf("it carries a mark: %s", text)
				}
				if err == nil && !h.hasVolume(conn, name+".qcow2") {
					err = errors.New("its disk is gone")
				}
				return err
			},
			CopyMark: func(t *testing.T, ref scaling.Ref, name string) string { return h.copyDomain(t, conn, ref.Name, name) },
			Leftovers: func(t *testing.T) []string {
				after, err := h.Snapshot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var left []string
				for _, what := range after.Left(before) {
					// What the hooks made is taken away after this is asked.
					if !strings.Contains(what, "web-copy") && !strings.Contains(what, "web-foreign") &&
						!strings.Contains(what, "web-baseline") && !strings.Contains(what, "web-1.qcow2") && !strings.HasSuffix(what, "web-1") {
						left = append(left, what)
					}
				}
				return left
			},
		}
	})
}

// copyDomain defines a VM from another's definition, mark and all, under a name
// and uuid of its own, as somebody does who clones by hand.
func (h *hostTest) copyDomain(t *testing.T, conn *golibvirt.Connect, from, to string) string {
	t.Helper()
	dom, err := conn.LookupDomainByName(from)
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	text, err := dom.GetXMLDesc(golibvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		t.Fatal(err)
	}
	uuid, err := dom.GetUUIDString()
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Replace(text, "<uuid>"+uuid+"</uuid>", "", 1)
	text = strings.Replace(text, "<name>"+from+"</name>", "<name>"+to+"</name>", 1)
	copied, err := conn.DomainDefineXML(text)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Free()
	t.Cleanup(func() {
		if dom, err := conn.LookupDomainByName(to); err == nil {
			dom.Undefine()
			dom.Free()
		}
	})
	if text, err := mark(conn, to); err != nil || text == "" {
		t.Fatalf("the copy has no mark: %v", err)
	}
	copyUUID, err := copied.GetUUIDString()
	if err != nil {
		t.Fatal(err)
	}
	return copyUUID
}
