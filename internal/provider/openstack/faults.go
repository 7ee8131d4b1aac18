package openstack

import (
	"fmt"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/fault"
)

// change makes a call that changes something, with a fault point on either side,
// such as "openstack.create server.before". what is fixed text, on names what it is
// done to.
func change(what, on string, call func() error) error {
	if fault.Enabled {
		fault.Point("openstack." + what + ".before")
	}
	err := call()
	if fault.Enabled {
		fault.Point("openstack." + what + ".after")
	}
	return cloud.Error(err, "%s", fmt.Sprintf("%s %s", what, on))
}
