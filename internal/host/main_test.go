package host

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMain puts stand-ins for ufw and firewall-cmd first: nobody's firewall is to be
// changed by a test. They work on rules that the real ones made.
func TestMain(m *testing.M) {
	os.Exit(withStandIns(m))
}

func withStandIns(m *testing.M) int {
	testdata, err := filepath.Abs("testdata")
	if err == nil {
		var dir string
		if dir, err = os.MkdirTemp("", "scalehook-host-*"); err == nil {
			defer os.RemoveAll(dir)
			for name, value := range map[string]string{
				"SCALEHOOK_TESTDATA": testdata,
				"SCALEHOOK_FAKES":    dir,
				"PATH":               filepath.Join(testdata, "bin") + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
			} {
				if err == nil {
					err = os.Setenv(name, value)
				}
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
