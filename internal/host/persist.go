package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// unitName is that of the unit which applies again at each boot.
const unitName = "scalehook-host.service"

const sysctlFile = `# Written by scalehook host apply --persist, removed by scalehook host remove.
# Guests of MicroStack reach the world through this host. It is on before Docker
# starts, which else turns it on itself and then drops what others forward.
net.ipv4.ip_forward = 1
`

// unit comes after everything that makes a chain at the hook forward, and again
// when one of those that begin from nothing was started again.
func (c Config) unit(w Way) string {
	args := []string{c.Program, "host", "apply", "--bridge", w.Bridge, "--network", w.Network.String()}
	if c.Uplink != "" { // else it is looked for at each boot
		args = append(args, "--uplink", c.Uplink)
	}
	for n, a := range args {
		args[n] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`).Replace(a) + `"`
	}
	command := strings.Join(args, " ")
	return `# Written by scalehook host apply --persist, removed by scalehook host remove.
[Unit]
Description=Forwarding and NAT for the guests of MicroStack (scalehook host)
Wants=network-online.target
After=network-online.target nftables.service netfilter-persistent.service ufw.service firewalld.service docker.service
PartOf=nftables.service netfilter-persistent.service
ReloadPropagatedFrom=nftables.service
StartLimitIntervalSec=10min
StartLimitBurst=20

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + command + `
ExecReload=` + command + `
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
`
}

func (c Config) wantsPath() string {
	return filepath.Join(filepath.Dir(c.unitPath()), "multi-user.target.wants", unitName)
}

// persist writes the two files. It returns whether the unit has still to be started.
func (a *applier) persist(ctx context.Context) (start bool, err error) {
	c := a.config
	for _, f := range []struct{ path, content string }{{c.sysctlPath(), sysctlFile}, {c.unitPath(), c.unit(a.way)}} {
		if old, err := os.ReadFile(f.path); err == nil && string(old) == f.content {
			continue
		}
		start = true
		if err := a.do("write "+f.path, func() error { return writeFile(f.path, []byte(f.content), 0o644) }); err != nil {
			return false, err
		}
	}
	if target, err := os.Readlink(c.wantsPath()); err != nil || target != "../"+unitName {
		start = true
		err := a.do("enable "+unitName, func() error {
			if err := os.MkdirAll(filepath.Dir(c.wantsPath()), 0o755); err != nil { //nolint:gosec // for everybody to read
				return fmt.Errorf("enable the unit: %w", err)
			}
			if err := removeFile(c.wantsPath()); err != nil {
				return err
			}
			if err := os.Symlink("../"+unitName, c.wantsPath()); err != nil {
				return fmt.Errorf("enable the unit: %w", err)
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	if !c.systemdRuns() {
		return false, nil
	}
	if start && !a.dry {
		_, err = run(ctx, "", "systemctl", "daemon-reload")
	}
	return start && !a.dry, err
}

// unpersist removes the two files.
func (a *applier) unpersist(ctx context.Context) error {
	c := a.config
	had := false
	var errs []error
	for _, path := range []string{c.wantsPath(), c.unitPath(), c.sysctlPath()} {
		if !exists(path) {
			continue
		}
		had = had || path == c.unitPath()
		errs = append(errs, a.do("remove "+path, func() error { return removeFile(path) }))
	}
	if had && c.systemdRuns() && !a.dry {
		_, err := run(ctx, "", "systemctl", "daemon-reload")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// systemdRuns as sd_booted(3) tells.
func (c Config) systemdRuns() bool { return !c.rooted() && exists("/run/systemd/system") }
