package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/e2e/openstack/stage"
)

// outside is a name that only the demo's name server knows.
const outside = "outside.test"

// probeFile is a second set-up in the network that is there: a server whose first boot
// reports on its console what it reaches, for guests that one cannot log in to.
func probeFile(clouds string) string {
	return fmt.Sprintf(`name: probe
owner: %s
cloud: {cloud: %s, clouds_file: %q}
network: {name: %s}
security_group:
  name: sg-probe
  rules:
    - {protocol: icmp, from: %[10]s}
service: {port: 80, balancer: %[5]s, path: /health}
server: {name: vm-probe, image: %[6]s, flavor: %[7]s, report: true, config_drive: true}
floating_ip: {network: %[8]s}
verify: {outbound: [%[5]s, %[9]s]}
`, owner, lab.Member, clouds, network, lab.Gateway(), lab.Image, lab.Flavor, lab.External, outside, cidr)
}

// verify is the seed's connectivity test: its service through the floating IP, and from
// inside the guest an address and a name of the world outside.
func (w *world) verify(ctx context.Context) error {
	w.scr.title("connectivity")
	file := filepath.Join(w.dir, "probe.yml")
	if err := os.WriteFile(file, []byte(probeFile(w.cloud.CloudsFile())), 0o644); err != nil {
		return err
	}
	s, err := w.stage("probe")
	if err != nil {
		return err
	}
	names, err := s.Start(ctx, stage.Spec{Name: "dnsmasq", Path: "dnsmasq", Args: []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--no-resolv", "--no-hosts", "--bind-interfaces",
		"--listen-address=" + lab.Gateway().String(), "--address=/" + outside + "/" + lab.Gateway().String(),
	}})
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"provision", file}, {"verify", file, "--timeout", launchLimit.String()}, {"provision", file, "--destroy"}} {
		what := "scalehook " + args[0]
		if len(args) > 2 && args[0] == "provision" {
			what += " " + args[2]
		}
		if err := w.scr.step(what, func() error {
			out, err := w.scalehook(ctx, args...)
			w.scr.quote(out)
			return err
		}); err != nil {
			return err
		}
	}
	return names.Stop()
}
