package libvirt

import (
	"fmt"
	"testing"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestErrorsOfLibvirtAreClassified(t *testing.T) {
	for name, c := range map[string]struct {
		err  libvirt.Error
		want scaling.Class
	}{
		"no such domain":           {libvirt.Error{Code: libvirt.ERR_NO_DOMAIN}, scaling.NotFound},
		"no such volume":           {libvirt.Error{Code: libvirt.ERR_NO_STORAGE_VOL}, scaling.NotFound},
		"no such pool":             {libvirt.Error{Code: libvirt.ERR_NO_STORAGE_POOL}, scaling.Permanent},
		"no such network":          {libvirt.Error{Code: libvirt.ERR_NO_NETWORK}, scaling.Permanent},
		"a definition refused":     {libvirt.Error{Code: libvirt.ERR_XML_ERROR}, scaling.Permanent},
		"an unsupported wish":      {libvirt.Error{Code: libvirt.ERR_CONFIG_UNSUPPORTED}, scaling.Permanent},
		"a volume that exists":     {libvirt.Error{Code: libvirt.ERR_STORAGE_VOL_EXIST}, scaling.Conflict},
		"a name that is taken":     {libvirt.Error{Code: libvirt.ERR_OPERATION_FAILED, Message: "operation failed: domain 'x' already exists with uuid y"}, scaling.Conflict},
		"a lock held by QEMU":      {libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: `Failed to get "write" lock`}, scaling.Conflict},
		"a full disk":              {libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: "qemu-img: No space left on device"}, scaling.Quota},
		"no memory":                {libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: "cannot set up guest memory 'pc.ram': Cannot allocate memory"}, scaling.Quota},
		"a lock that is not given": {libvirt.Error{Code: libvirt.ERR_OPERATION_TIMEOUT, Message: "cannot acquire state change lock"}, scaling.Temporary},
		"a broken connection":      {libvirt.Error{Code: libvirt.ERR_RPC}, scaling.Temporary},
		"something of the system":  {libvirt.Error{Code: libvirt.ERR_SYSTEM_ERROR, Message: "Connection refused"}, scaling.Temporary},
	} {
		t.Run(name, func(t *testing.T) {
			if got := classOf(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
