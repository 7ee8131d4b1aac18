package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/guest"
)

const libvirtdConf = `unix_sock_group = "root"
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0777"
auth_unix_ro = "none"
auth_unix_rw = "none"
max_clients = 200
max_client_requests = 20
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
`

// No security driver, cgroups, virtlogd: there is no systemd in the lab.
const qemuConf = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
`

// no-ping makes dnsmasq offer an address at once instead of after 3 s.
const networkXML = `<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'>
 <name>%s</name>%s<bridge name='virbr0' stp='off' delay='0'/>
 <ip address='%s' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'><lease expiry='%d' unit='seconds'/></range></dhcp></ip>
 <dnsmasq:options><dnsmasq:option value='no-ping'/></dnsmasq:options>
</network>`

// makeDir makes the lab's folder and what libvirtd finds in it.
func (l *Lab) makeDir() error {
	dir, err := os.MkdirTemp(l.opts.Dir, dirPrefix+l.opts.Name+"-")
	if err != nil {
		return fmt.Errorf("make lab folder: %w", err)
	}
	l.dir, l.id = dir, dir[strings.LastIndexByte(dir, '/')+1:]
	if err := l.writeState(); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("open lab folder: %w", err)
	}
	if len(l.Path("haproxy", "master.sock.12345.tmp")) > 107 {
		return fmt.Errorf("lab folder %s: too long for socket paths", dir)
	}
	for _, sub := range []string{"etc", "var", "run", "log", "cache", PoolName} {
		if err := os.Mkdir(l.Path(sub), 0o755); err != nil {
			return fmt.Errorf("make lab folder: %w", err)
		}
	}
	for name, content := range map[string]string{"libvirtd.conf": libvirtdConf, "qemu.conf": qemuConf} {
		if err := os.WriteFile(l.Path("etc", name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("configure libvirtd: %w", err)
		}
	}
	return nil
}

// StartLibvirtd starts libvirtd, as Start does and as a test does again after
// StopLibvirtd. It returns when it answers. VMs that run are found again.
func (l *Lab) StartLibvirtd(ctx context.Context) error {
	path, err := guest.FindProgram("libvirtd")
	if err != nil {
		return err
	}
	if l.libvirtd != nil {
		select {
		case <-l.libvirtd.Done():
		default:
			return errors.New("start libvirtd: it is running")
		}
	}
	// Entering a process-id namespace takes a fork: the program is the child of nsenter.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "nsenter", "--target="+strconv.Itoa(l.ns.pid()), "--mount", "--net", "--pid", "--",
		"nice", "-n", strconv.Itoa(l.opts.ControlNice), path)
	cmd.Env = l.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p, err := l.launch(ctx, ProcessSpec{Name: "libvirtd", Ready: l.libvirtAnswers}, cmd)
	if err != nil {
		return err
	}
	if child := childOf(p.pid); child != 0 {
		p.pid = child
	}
	l.libvirtd = p
	return nil
}

// StopLibvirtd stops libvirtd and leaves the VMs running. With kill it dies as
// in a crash.
func (l *Lab) StopLibvirtd(ctx context.Context, kill bool) error {
	if kill {
		l.libvirtd.Kill()
		return nil
	}
	return l.libvirtd.Stop(ctx)
}

// Libvirtd is the process of libvirtd, to be stopped or hung by tests.
func (l *Lab) Libvirtd() *Process { return l.libvirtd }

func (l *Lab) libvirtAnswers(context.Context) error {
	return l.withConnect(func(c *libvirt.Connect) error {
		_, err := c.GetLibVersion()
		return err
	})
}

// withConnect runs fn with a connection of its own.
func (l *Lab) withConnect(fn func(*libvirt.Connect) error) error {
	c, err := libvirt.NewConnect(l.URI())
	if err != nil {
		return fmt.Errorf("connect to the lab's libvirt: %w", err)
	}
	defer c.Close()
	return fn(c)
}

func (l *Lab) defineNetwork() error {
	forward := "<forward mode='nat'/>"
	if l.opts.Isolated {
		forward = ""
	}
	return l.withConnect(func(c *libvirt.Connect) error {
		n, err := c.NetworkDefineXML(fmt.Sprintf(networkXML, NetworkName, forward, l.Gateway(), int(l.opts.LeaseTime.Seconds())))
		if err != nil {
			return fmt.Errorf("define network: %w", err)
		}
		defer n.Free()
		if err := errors.Join(n.SetAutostart(true), n.Create()); err != nil {
			return fmt.Errorf("start network: %w", err)
		}
		return nil
	})
}

func (l *Lab) definePool() error {
	return l.withConnect(func(c *libvirt.Connect) error {
		p, err := c.StoragePoolDefineXML(fmt.Sprintf("<pool type='dir'><name>%s</name><target><path>%s</path></target></pool>", PoolName, l.Path(PoolName)), 0)
		if err != nil {
			return fmt.Errorf("define pool: %w", err)
		}
		defer p.Free()
		if err := errors.Join(p.SetAutostart(true), p.Create(0)); err != nil {
			return fmt.Errorf("start pool: %w", err)
		}
		return nil
	})
}
