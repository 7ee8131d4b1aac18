package doctor

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// libvirt's event loop is the process's: it runs until the end, like a signal handler.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/scalehook/scalehook/internal/provider/libvirt.runEventLoop"))
}
