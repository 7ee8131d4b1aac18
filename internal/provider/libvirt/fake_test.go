package libvirt

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/testenv"
)

// testURI is libvirt's driver inside this process: its domains, pools and
// volumes exist in memory, and all its connections share them.
const testURI = "test:///default"

const (
	testOwner = "owner-of-the-tests"
	idA       = "11111111-1111-4111-8111-111111111111"
	idB       = "22222222-2222-4222-8222-222222222222"
)

// testHost keeps the driver's state alive for a test and clears it at its end.
func testHost(t *testing.T) *libvirt.Connect {
	t.Helper()
	testenv.Need(t, testenv.Library("libvirt.so.0"))
	if err := startEventLoop(); err != nil {
		t.Fatal(err)
	}
	conn, err := libvirt.NewConnect(testURI)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	pool, err := conn.StoragePoolCreateXML(`<pool type='dir'><name>images</name><target><path>/images</path></target></pool>`, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Free()
	t.Cleanup(func() {
		pool, err := conn.LookupStoragePoolByName("images")
		if err != nil {
			t.Error(err)
			return
		}
		defer pool.Free()
		if err := pool.Destroy(); err != nil {
			t.Error(err)
		}
	})
	vol, err := pool.StorageVolCreateXML(`<volume><name>base.qcow2</name><capacity>1048576</capacity><target><format type='qcow2'/></target></volume>`, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer vol.Free()
	return conn
}

func testTemplate() Template {
	t := DefaultTemplate()
	t.Image, t.Pool = "base.qcow2", "images"
	return t
}

func testProvider(t *testing.T, templates map[string]Template) *Provider {
	t.Helper()
	cfg := DefaultConfig()
	cfg.URI = testURI
	p, err := New(cfg, testOwner, templates, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
