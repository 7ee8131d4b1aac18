package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// gateway is the machine's address in the external network.
const gateway = "203.0.113.1/24"

// Gateway is the address that floating IPs are reached from with QEMU.
func Gateway() netip.Addr { return netip.MustParsePrefix(gateway).Addr() }

// neverOld is what a chassis says it has seen that nothing will ever overtake.
const neverOld = "2000000000"

// pretendChassis writes into OVN's database what an ovn-controller that always
// lives would, so that Neutron binds the ports of Host.
func (u *bringUp) pretendChassis(ctx context.Context) error {
	southbound := u.southbound()
	if err := u.each(ctx, "ovn-chassis", southbound,
		[]string{"--may-exist", "chassis-add", Host, "geneve", "127.0.0.1"},
		[]string{
			"set", "chassis", Host, "hostname=" + Host, "other_config:ovn-bridge-mappings=public:br-ex", "other_config:datapath-type=netdev",
			"other_config:ovn-cms-options=enable-chassis-as-gw", "other_config:is-interconn=false", `other_config:port-up-notif="true"`,
			`external_ids={ovn-bridge-mappings="public:br-ex",ovn-cms-options="enable-chassis-as-gw",datapath-type=netdev}`,
		},
	); err != nil {
		return err
	}
	private, err := u.Namespace().Command(ctx, southbound[0], southbound[1], "--bare", "--columns=_uuid", "find", "chassis_private", "name="+Host).Output()
	if err != nil {
		return fmt.Errorf("look for the chassis: %w", err)
	}
	if strings.TrimSpace(string(private)) != "" {
		return nil
	}
	chassis, err := u.Namespace().Command(ctx, southbound[0], southbound[1], "--bare", "--columns=_uuid", "find", "chassis", "name="+Host).Output()
	if err != nil {
		return fmt.Errorf("look for the chassis: %w", err)
	}
	return u.each(ctx, "ovn-chassis", southbound, []string{
		"create", "chassis_private", "name=" + Host, "chassis=" + strings.TrimSpace(string(chassis)),
		"nb_cfg=" + neverOld, "nb_cfg_timestamp=4102444800000", // in the year 2100
	})
}

func (c *Cloud) southbound() []string {
	return []string{"ovn-sbctl", "--db=unix:" + c.path("ovn", "sb.sock")}
}

// dataPlane brings up Open vSwitch, in user space since it must not need a kernel
// module, and what OVN and Neutron run on a host.
func (u *bringUp) dataPlane(ctx context.Context) error {
	if file := u.path("ovs", "conf.db"); !exists(file) {
		if err := u.command(ctx, "ovs-create", "ovsdb-tool", "create", file, u.switchSchema()); err != nil {
			return err
		}
	}
	if err := u.startServices(ctx, "ovs-database"); err != nil {
		return err
	}
	if err := u.await(ctx, "ovs-database", 20*time.Second, dials(ctx, u.path("ovs", "db.sock"))); err != nil {
		return err
	}
	external := "external_ids:"
	if err := u.each(ctx, "ovs-create", []string{"ovs-vsctl", "--db=unix:" + u.path("ovs", "db.sock"), "--no-wait"},
		[]string{
			"--may-exist", "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure", "other_config:disable-in-band=true",
			"--", "--may-exist", "add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev",
		},
		[]string{
			"set", "open_vswitch", ".", external + "system-id=" + Host, external + "hostname=" + Host, external + "ovn-remote=unix:" + u.path("ovn", "sb.sock"),
			external + "ovn-encap-type=geneve", external + "ovn-encap-ip=127.0.0.1", external + "ovn-bridge-mappings=public:br-ex",
			external + "ovn-bridge-datapath-type=netdev", external + "ovn-cms-options=enable-chassis-as-gw", external + "ovn-monitor-all=true",
		},
	); err != nil {
		return err
	}
	if err := u.startServices(ctx, "ovs-vswitchd"); err != nil {
		return err
	}
	if err := u.await(ctx, "ovs-vswitchd", 20*time.Second, func() error {
		for _, bridge := range []string{"br-ex", "br-int"} {
			out, err := u.Namespace().Command(ctx, "ip", "-brief", "addr", "show", "up", "dev", bridge).Output()
			if err != nil || len(out) == 0 || bridge == "br-ex" && !strings.Contains(string(out), gateway) {
				return fmt.Errorf("no bridge %s that is up: %q, %w", bridge, out, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return u.startServices(ctx, "ovn-controller", "ovn-metadata-agent")
}

// SwitchCrashes are the times at which Open vSwitch crashed since the cloud came up:
// what was under way then was cut by the lab.
func (c *Cloud) SwitchCrashes() ([]string, error) {
	raw, err := os.ReadFile(c.d.log("ovs-vswitchd"))
	if err != nil {
		return nil, fmt.Errorf("read the log of Open vSwitch: %w", err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, switchCrashed) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out, nil
}

// destroyGuests has libvirt end the guests: they are no daemons.
func (c *Cloud) destroyGuests(ctx context.Context) error {
	if !c.d.alive("libvirtd") || !c.d.alive(holder) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	listed, err := c.Namespace().Command(ctx, "virsh", "-c", "qemu:///system", "list", "--name").Output()
	if err != nil {
		return fmt.Errorf("list the guests: %w", err)
	}
	var errs []error
	for name := range strings.FieldsSeq(string(listed)) {
		if out, err := c.Namespace().Command(ctx, "virsh", "-c", "qemu:///system", "destroy", name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("end guest %s: %w: %s", name, err, out))
		}
	}
	return errors.Join(errs...)
}
