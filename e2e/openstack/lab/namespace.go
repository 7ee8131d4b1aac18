package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// holderArgs start the process that holds the namespaces open.
func (c *Cloud) holderArgs() []string {
	args := []string{"unshare", "--mount", "--propagation", "private"}
	network := "shared"
	if c.ownNetwork() {
		network = "own"
		args = append(args, "--net")
	}
	return append(args, "--", c.path("hold.sh"), c.opts.State, string(c.opts.Virt), network)
}

// forwarderArgs start the process that makes the APIs reachable from the machine.
func (c *Cloud) forwarderArgs() []string {
	pid, _ := c.d.pid(holder)
	args := []string{"/usr/bin/python3", c.path("python", "forward.py"), strconv.Itoa(pid)}
	for _, port := range []int{ports.Keystone, ports.Placement, ports.Glance, ports.Nova, ports.Neutron, ports.Octavia} {
		args = append(args, strconv.Itoa(port))
	}
	return args
}

// enter is what comes before a command that is to run in the namespaces.
func (c *Cloud) enter() []string {
	pid, _ := c.d.pid(holder)
	args := []string{"nsenter", "-t", strconv.Itoa(pid), "-m"}
	if c.ownNetwork() {
		args = append(args, "-n")
	}
	return append(args, "--")
}

// Namespace is where the cloud's programs live. With QEMU it has a network of its
// own, and floating IPs are reachable only from inside.
type Namespace struct{ cloud *Cloud }

// Namespace returns the cloud's.
func (c *Cloud) Namespace() *Namespace { return &Namespace{cloud: c} }

// Command prepares a program to be run inside.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	words := append(append(n.cloud.enter(), name), args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env, cmd.Dir = n.cloud.d.environ, "/"
	return cmd
}

// DialContext connects from inside, for an http.Transport for example. The name
// in the address is looked up outside.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	if !n.cloud.ownNetwork() {
		return dialer.DialContext(ctx, network, address)
	}
	pid, ok := n.cloud.d.pid(holder)
	if !ok {
		return nil, fmt.Errorf("connect to %s: the cloud does not run", address)
	}
	// Only what is done on this very thread is inside, so the dialer must not
	// make goroutines of its own.
	resolved, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that nothing else
		// is ever run in the wrong namespace.
		runtime.LockOSThread()
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- result{err: fmt.Errorf("connect to %s: enter the namespace: %w", address, err)}
			return
		}
		conn, err := dialer.DialContext(ctx, network, resolved.String())
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
