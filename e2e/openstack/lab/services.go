package lab

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Names of daemons that are spoken of in more than one place.
const (
	holder      = "namespaces"
	forwarder   = "forwarder"
	database    = "mariadb"
	queue       = "rabbitmq"
	novaCompute = "nova-compute"
)

// service is one of the programs that make up the cloud.
type service struct {
	name string
	env  []string
	args []string
	// port is where its API answers HTTP; 0 when it has none.
	port int
	// others are ports that it needs besides.
	others []int
	// outside the namespaces.
	outside bool
	// base are those that the others need in order to end in peace.
	base bool
}

// services are the programs of the cloud in the order in which they are started.
func (c *Cloud) services() []service {
	state := c.opts.State
	qemu := c.opts.Virt == QEMU
	northbound, southbound := "unix:"+c.path("ovn", "nb.sock"), "unix:"+c.path("ovn", "sb.sock")
	out := []service{
		{name: holder, outside: true, base: true, args: c.holderArgs()},
		{name: database, base: true, args: []string{
			"mariadbd", "--no-defaults", "--user=root", "--datadir=" + c.path("mysql"), "--socket=" + c.socket(), "--pid-file=" + c.path("mysql.pid"),
			"--skip-networking", "--character-set-server=utf8mb3", "--collation-server=utf8mb3_general_ci", "--max-connections=400",
			"--innodb-buffer-pool-size=128M", "--innodb-log-file-size=64M",
			// What a power cut loses here nobody misses.
			"--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-flush-method=nosync", "--skip-log-bin", "--performance-schema=off",
		}},
		{name: "epmd", base: true, others: []int{ports.Epmd}, args: []string{"epmd", "-address", "127.0.0.1", "-port", strconv.Itoa(ports.Epmd)}},
		{name: queue, base: true, others: []int{ports.Rabbit, ports.RabbitDist}, env: c.rabbitEnviron(), args: []string{"/usr/lib/rabbitmq/bin/rabbitmq-server"}},
		{name: "ovn-northbound", base: true, args: []string{"ovsdb-server", "--remote=p" + northbound, "--unixctl=" + c.path("ovn", "nb.ctl"), c.path("ovn", "nb.db")}},
		{name: "ovn-southbound", base: true, args: []string{"ovsdb-server", "--remote=p" + southbound, "--unixctl=" + c.path("ovn", "sb.ctl"), c.path("ovn", "sb.db")}},
		{name: "ovn-northd", args: []string{"ovn-northd", "--ovnnb-db=" + northbound, "--ovnsb-db=" + southbound, "--unixctl=" + c.path("ovn", "northd.ctl")}},
	}
	if qemu && !c.opts.Private {
		out = append(out, service{name: forwarder, outside: true, args: c.forwarderArgs()})
	}
	nova := []string{"--config-file", c.path("etc", "nova", "nova.conf")}
	neutron := []string{"--config-file", c.path("etc", "neutron", "neutron.conf"), "--config-file", c.path("etc", "neutron", "ml2.ini")}
	out = append(out,
		service{
			name: "keystone", port: ports.Keystone, env: []string{"OS_KEYSTONE_CONFIG_FILES=" + c.path("etc", "keystone", "keystone.conf")},
			args: uwsgi(ports.Keystone, "/usr/bin/keystone-wsgi-public", 8),
		},
		service{
			name: "placement", port: ports.Placement, env: []string{"OS_PLACEMENT_CONFIG_DIR=" + c.path("etc", "placement")},
			args: uwsgi(ports.Placement, "/usr/bin/placement-api", 4),
		},
		service{name: "neutron-server", port: ports.Neutron, args: python("neutron-server", "neutron.cmd.eventlet.server", neutron...)},
		service{name: "nova-conductor", args: python("nova-conductor", "nova.cmd.conductor", nova...)},
		service{name: "nova-scheduler", args: python("nova-scheduler", "nova.cmd.scheduler", nova...)},
		service{name: "nova-api", port: ports.Nova, others: []int{ports.Metadata}, args: python("nova-api", "nova.cmd.api", nova...)},
		service{
			name: "glance-api", port: ports.Glance,
			args: python("glance-api", "glance.cmd.api", "--config-file", c.path("etc", "glance", "glance-api.conf")),
		},
	)
	if qemu {
		out = append(out,
			service{name: "ovs-database", base: true, args: []string{
				"ovsdb-server", "--remote=punix:" + c.path("ovs", "db.sock"), "--unixctl=" + c.path("ovs", "ovsdb.ctl"), c.path("ovs", "conf.db"),
			}},
			service{name: "ovs-vswitchd", base: true, args: slices.Concat(
				[]string{"sh", "-c", vswitchdScript, gateway}, c.vswitchd(),
				[]string{"unix:" + c.path("ovs", "db.sock"), "--unixctl=" + c.path("ovs", "vswitchd.ctl")},
			)},
			service{name: "ovn-controller", args: []string{"ovn-controller", "unix:" + c.path("ovs", "db.sock")}},
			service{name: "ovn-metadata-agent", args: python("ovn-metadata-agent", "neutron.cmd.eventlet.agents.ovn_metadata", "--config-file", c.path("etc", "neutron", "metadata.ini"))},
			service{name: "virtlogd", base: true, args: []string{"virtlogd"}},
			service{name: "libvirtd", base: true, args: []string{"libvirtd", "-p", c.path("libvirt", "libvirtd.pid")}},
		)
	}
	out = append(out, service{
		name: novaCompute, args: append([]string{"/usr/bin/python3", "-c", fmt.Sprintf(novaComputeScript, c.path("python"))}, nova...),
		env: []string{"SCALEHOOK_LAB_GUESTS=" + c.path("guests"), "SCALEHOOK_LAB_OVN_SB=" + southbound},
	})
	if c.opts.Octavia {
		octavia := func(file string) []string { return []string{"--config-file", c.path("etc", "octavia", file)} }
		out = append(out,
			service{name: "octavia-api", port: ports.Octavia, args: uwsgi(ports.Octavia, state+"/etc/octavia/wsgi.py", 4)},
			service{name: "octavia-driver-agent", args: python("octavia-driver-agent", "octavia.cmd.driver_agent", octavia("octavia.conf")...)},
			service{name: "octavia-worker", args: python("octavia-worker", "octavia.cmd.octavia_worker", octavia("worker.conf")...)},
		)
	}
	return out
}

// novaComputeScript lets nova, which takes drivers only below nova.virt, find ours
// there. nova.cmd comes first: it has to patch eventlet before anything else.
// os-vif believes that every bridge uses the kernel's datapath unless the port says
// otherwise, which Neutron with OVN never does: with each new guest it would set
// br-int so, and OVN back, and all that runs through it would be taken down and
// made again.
const novaComputeScript = `import sys; sys.argv[0] = "nova-compute"
import nova.cmd, nova.virt
import vif_plug_ovs.constants
vif_plug_ovs.constants.OVS_DATAPATH_SYSTEM = vif_plug_ovs.constants.OVS_DATAPATH_NETDEV
nova.virt.__path__.append("%s")
from nova.cmd.compute import main
sys.exit(main())`

// vswitchdScript runs Open vSwitch, again should it crash, and gives its bridge $0,
// which goes with it.
const vswitchdScript = `trap 'exit 0' TERM
while :; do
	"$@" &
	until ip addr replace "$0" dev br-ex && ip link set br-ex up && ip link set br-int up || ! kill -0 $!; do sleep 0.1; done 2>/dev/null
	wait $!
	ended=$?
	if [ $ended -lt 128 ]; then exit $ended; fi
	echo "` + switchCrashed + ` $((ended - 128)) at $(date -u +%T) and is started again"
done`

// switchCrashed begins the line about it.
const switchCrashed = "ovs-vswitchd ended by signal"

// python runs a service whose package with the program of that name is not
// installed, only its library: the packages would set up services of their own.
func python(name, module string, args ...string) []string {
	script := fmt.Sprintf("import sys; sys.argv[0] = %q\nfrom %s import main\nsys.exit(main())", name, module)
	return append([]string{"/usr/bin/python3", "-c", script}, args...)
}

func uwsgi(port int, file string, threads int) []string {
	return []string{
		"uwsgi", "--plugin", "python3", "--http-socket", "127.0.0.1:" + strconv.Itoa(port), "--wsgi-file", file,
		"--master", "--lazy-apps", "--need-app", "--die-on-term", "--enable-threads", "--processes", "1", "--threads", strconv.Itoa(threads),
		"--buffer-size", "65535", "--add-header", "Connection: close", "--disable-logging",
	}
}

// rabbitEnviron keeps Erlang on loopback, at ports of its own, and on one thread.
func (c *Cloud) rabbitEnviron() []string {
	return []string{
		"HOME=" + c.path("rabbit"),
		"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT=" + strconv.Itoa(ports.Epmd),
		"RABBITMQ_NODENAME=scalehook-lab@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT=" + strconv.Itoa(ports.Rabbit), "RABBITMQ_DIST_PORT=" + strconv.Itoa(ports.RabbitDist),
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_CONFIG_FILE=" + c.path("etc", "rabbitmq", "rabbitmq"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + c.path("etc", "rabbitmq", "plugins"),
		"RABBITMQ_MNESIA_BASE=" + c.path("rabbit", "mnesia"), "RABBITMQ_LOG_BASE=" + c.path("log"), "RABBITMQ_PID_FILE=" + c.path("rabbit", "pid"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
	}
}

func (c *Cloud) socket() string { return c.path("mysql.sock") }

// service finds one by its name.
func (c *Cloud) service(name string) (service, error) {
	var names []string
	for _, s := range c.services() {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return service{}, fmt.Errorf("no service %q in this cloud, it has %v", name, names)
}

// startServices starts services, unless they run, and does not wait for them.
func (c *Cloud) startServices(ctx context.Context, names ...string) error {
	for _, name := range names {
		s, err := c.service(name)
		if err != nil {
			return err
		}
		args := s.args
		if !s.outside {
			args = append(c.enter(), args...)
		}
		if err := c.d.start(ctx, name, s.env, args...); err != nil {
			return err
		}
	}
	return nil
}

// awaitAPIs waits until the services' APIs answer.
func (c *Cloud) awaitAPIs(ctx context.Context, names ...string) error {
	for _, name := range names {
		s, err := c.service(name)
		if err != nil {
			return err
		}
		if err := c.await(ctx, name, 5*time.Minute, func() error { return c.answers(ctx, s.port) }); err != nil {
			return err
		}
	}
	return nil
}

// await waits for something about a daemon, and for nothing once it has died.
func (c *Cloud) await(ctx context.Context, name string, limit time.Duration, check func() error) error {
	err := poll(ctx, limit, func() error {
		if !c.d.alive(name) {
			return hopeless{fmt.Errorf("%s has ended", name)}
		}
		return check()
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w; %s", name, err, c.d.tail(name, 20))
	}
	return nil
}

// answers returns nil when an API answers at the port. Some say at their root
// which versions they have (300) or want a token (401).
func (c *Cloud) answers(ctx context.Context, port int) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: c.Namespace().DialContext}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
	if err != nil {
		return fmt.Errorf("ask port %d: %w", port, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask port %d: %w", port, err)
	}
	response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK, http.StatusMultipleChoices, http.StatusUnauthorized:
		return nil
	}
	return fmt.Errorf("port %d answers %s", port, response.Status)
}
