package config_test

import (
	"testing"

	"go.uber.org/goleak"
)

// libvirt's event loop is one for the process and cannot be stopped.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/scalehook/scalehook/internal/provider/libvirt.runEventLoop"))
}
