package host

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ipv4 is where the settings are; it shows those of the calling thread's network
// namespace.
const ipv4 = "/proc/sys/net/ipv4"

// forwarding is what writing ip_forward changes besides it: the kernel then sets
// the switch of every interface, and the reception of redirects.
type forwarding struct {
	IPForward string `json:"ip_forward"`
	// Switches are paths below /proc/sys/net/ipv4 and their values.
	Switches map[string]string `json:"switches"`
}

// readForwarding reads it all.
func readForwarding() (forwarding, error) {
	f := forwarding{Switches: map[string]string{}}
	var err error
	if f.IPForward, err = readSetting("ip_forward"); err != nil {
		return f, err
	}
	paths, err := filepath.Glob(filepath.Join(ipv4, "conf/*/forwarding"))
	if err != nil {
		return f, fmt.Errorf("list the interfaces' switches: %w", err)
	}
	names := []string{"conf/all/accept_redirects"}
	for _, path := range paths {
		if name := strings.TrimPrefix(path, ipv4+"/"); name != "conf/all/forwarding" { // that one is ip_forward
			names = append(names, name)
		}
	}
	for _, name := range names {
		value, err := readSetting(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // an interface that just went
		}
		if err != nil {
			return f, err
		}
		f.Switches[name] = value
	}
	return f, nil
}

// restore puts back ip_forward and then what that changed. Interfaces that are
// gone are passed over; those that came since get the kernel's choice.
func (f forwarding) restore() error {
	errs := []error{writeSetting("ip_forward", f.IPForward)}
	for _, name := range slices.Sorted(maps.Keys(f.Switches)) {
		if now, err := readSetting(name); err == nil && now != f.Switches[name] {
			errs = append(errs, writeSetting(name, f.Switches[name]))
		}
	}
	return errors.Join(errs...)
}

func readSetting(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(ipv4, name))
	if err != nil {
		return "", fmt.Errorf("read net.ipv4.%s: %w", name, err)
	}
	return strings.TrimSpace(string(text)), nil
}

func writeSetting(name, value string) error {
	if err := os.WriteFile(filepath.Join(ipv4, name), []byte(value+"\n"), 0o644); err != nil { //nolint:gosec // the mode of a file in /proc is the kernel's
		return fmt.Errorf("set net.ipv4.%s to %s: %w", name, value, err)
	}
	return nil
}
