//go:build openstack

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// private brings up a cloud beside whichever runs, and ends it with the test.
func private(t *testing.T, virt Virt) *Cloud {
	t.Helper()
	testenv.Need(t, testenv.Root, installed(virt))
	state := "/var/lib/scalehook-openstack-test-" + string(virt)
	t.Cleanup(func() {
		end(t, state, true)
		if mentioned := commandsThatMention(t, state); len(mentioned) > 0 {
			t.Errorf("processes left:\n%s", strings.Join(mentioned, "\n"))
		}
		if _, err := os.Stat(state); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the state folder is still there: %v", err)
		}
	})
	c, err := Up(t.Context(), Options{Virt: virt, Octavia: true, Private: true, State: state, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// commandsThatMention lists the processes with a word in their command line.
func commandsThatMention(t *testing.T, word string) []string {
	t.Helper()
	var out []string
	for _, pid := range processes() {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && pid != os.Getpid() && bytes.Contains(line, []byte(word)) {
			out = append(out, fmt.Sprintf("%d %s", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return out
}

// show asks the client for one thing about something.
func show[T any](t *testing.T, c *Cloud, args ...string) T {
	t.Helper()
	var value T
	raw := c.OpenStack(t, Member, args...)
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatalf("openstack %s: %v in %s", strings.Join(args, " "), err, raw)
	}
	return value
}

type named struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Fault  struct{ Message string }
}

// awaitStatus waits until a server has the status.
func awaitStatus(t *testing.T, c *Cloud, server, want string) named {
	t.Helper()
	var last named
	testenv.Eventually(t, 3*time.Minute, server+" to be "+want, func() error {
		if last = show[named](t, c, "server", "show", server); last.Status != want {
			return fmt.Errorf("it is %s %s", last.Status, last.Fault.Message)
		}
		return nil
	})
	return last
}

// network makes a network with a subnet that goes when the test ends.
func network(t *testing.T, c *Cloud, name, cidr string) {
	t.Helper()
	c.OpenStack(t, Member, "network", "create", name)
	t.Cleanup(func() { c.OpenStack(t, Member, "network", "delete", name) })
	c.OpenStack(t, Member, "subnet", "create", name, "--network", name, "--subnet-range", cidr)
}

func server(t *testing.T, c *Cloud, name string, args ...string) {
	t.Helper()
	c.OpenStack(t, Member, append([]string{"--os-compute-api-version", "2.52", "server", "create", name, "--flavor", Flavor, "--image", Image}, args...)...)
	t.Cleanup(func() { c.OpenStack(t, Member, "server", "delete", "--wait", name) })
}

func TestPretendedGuestsTakeOrders(t *testing.T) {
	c := Start(t, Options{Virt: Fake, Octavia: true})
	name := fmt.Sprintf("labtest%d", os.Getpid())
	t.Cleanup(func() {
		if left := c.Leftovers(t, name); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	})
	network(t, c, name, "10.99.0.0/24")
	server(t, c, name+"-slow", "--network", name, "--property", "lab_boot=15")
	if slow := show[named](t, c, "server", "show", name+"-slow"); slow.Status != "BUILD" {
		t.Errorf("the slow server is %s, want BUILD", slow.Status)
	}
	server(t, c, name+"-abort", "--network", name, "--property", "lab_spawn=abort")
	server(t, c, name+"-fail", "--network", name, "--property", "lab_spawn=fail")
	server(t, c, name, "--network", name, "--tag", "scalehook-owner="+name)
	for server, want := range map[string]string{"-abort": "lab_spawn=abort", "-fail": "Exceeded maximum number of retries"} {
		if fault := awaitStatus(t, c, name+server, "ERROR").Fault.Message; !strings.Contains(fault, want) && !strings.Contains(fault, "Exhausted") {
			t.Errorf("%s says %q, want %q", server, fault, want)
		}
	}
	id := awaitStatus(t, c, name, "ACTIVE").ID
	if left := c.Leftovers(t, name); len(left) < 6 {
		t.Errorf("found %d things of this test, want 4 servers, network and subnet at least: %v", len(left), left)
	}

	c.Orders(t, id, Orders{Console: "hello from the guest"})
	if console, err := c.Client(t.Context(), Member, "console", "log", "show", name); err != nil || !strings.Contains(string(console), "hello from the guest") {
		t.Errorf("the console says %q (%v)", console, err)
	}
	util := 0.8
	c.Orders(t, id, Orders{Util: &util})
	first, read := cpu(t, c, id)
	time.Sleep(2 * time.Second) // a share of time needs time
	second, again := cpu(t, c, id)
	if got := (second - first).Seconds() / again.Sub(read).Seconds(); got < 0.6 || got > 1 {
		t.Errorf("the guest used %.2f of its CPU, was told 0.8", got)
	}
	c.Orders(t, id, Orders{State: "crashed"})
	awaitStatus(t, c, name, "SHUTOFF")
	awaitStatus(t, c, name+"-slow", "ACTIVE")
}

// cpu is the time that the guest used its first CPU, and when that was asked.
func cpu(t *testing.T, c *Cloud, id string) (time.Duration, time.Time) {
	t.Helper()
	raw, err := c.Client(t.Context(), Admin, "server", "show", id, "--diagnostics")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		CPU time.Duration `json:"cpu0_time"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("diagnostics: %v in %s", err, raw)
	}
	return answer.CPU, time.Now()
}

func TestACloudComesAndGoes(t *testing.T) {
	c := private(t, Fake)
	began := time.Now()
	if _, err := Up(t.Context(), c.opts); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	t.Logf("a second time took %v", time.Since(began).Round(time.Second))

	t.Run("a service that was stopped is started again", func(t *testing.T) {
		for _, name := range []string{"neutron-server", novaCompute} {
			t.Run(name, func(t *testing.T) {
				c.StopService(t, name)
				if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), name+" does not run") {
					t.Errorf("the check says %v", err)
				}
			})
			if err := c.Check(t.Context()); err != nil {
				t.Errorf("after the test: %v", err)
			}
		}
	})
	t.Run("a service that is paused hangs", func(t *testing.T) {
		t.Run("keystone", func(t *testing.T) {
			c.Pause(t, "keystone")
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := c.answers(ctx, ports.Keystone); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("asked while paused: %v", err)
			}
		})
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("after the test: %v", err)
		}
	})
	t.Run("it comes again with all that it had", func(t *testing.T) {
		network(t, c, "stays", "10.98.0.0/24")
		server(t, c, "stays", "--network", "stays", "--wait")
		if err := c.Down(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if left := c.d.ours(); len(left) > 0 {
			t.Errorf("processes left: %v", left)
		}
		began := time.Now()
		if _, err := Up(t.Context(), c.opts); err != nil {
			t.Fatal(err)
		}
		t.Logf("came back in %v", time.Since(began).Round(time.Second))
		awaitStatus(t, c, "stays", "ACTIVE")
	})
}

func TestRealGuestsAnswerAtTheirFloatingIP(t *testing.T) {
	c := private(t, QEMU)
	network(t, c, "real", "10.97.0.0/24")
	c.OpenStack(t, Member, "router", "create", "real")
	t.Cleanup(func() { c.OpenStack(t, Member, "router", "delete", "real") })
	c.OpenStack(t, Member, "router", "set", "real", "--external-gateway", External)
	c.OpenStack(t, Member, "router", "add", "subnet", "real", "real")
	t.Cleanup(func() { c.OpenStack(t, Member, "router", "remove", "subnet", "real", "real") })
	c.OpenStack(t, Member, "security", "group", "create", "real")
	t.Cleanup(func() { c.OpenStack(t, Member, "security", "group", "delete", "real") })
	data := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(data, []byte("#!/bin/sh\necho \"USER DATA on $(hostname) $(ip -4 addr show | grep -o 'mtu [0-9]*')\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	server(t, c, "real", "--network", "real", "--security-group", "real", "--user-data", data, "--wait")
	t.Logf("ACTIVE after %v", time.Since(began).Round(time.Second))
	address := show[struct {
		Address string `json:"floating_ip_address"`
	}](t, c, "floating", "ip", "create", External).Address
	t.Cleanup(func() { c.OpenStack(t, Member, "floating", "ip", "delete", address) })
	c.OpenStack(t, Member, "server", "add", "floating", "ip", "real", address)

	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: c.Namespace().DialContext}}
	get := func() error {
		response, err := client.Get("http://" + address + "/")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		t.Logf("%s after %v: %s", response.Status, time.Since(began).Round(time.Second), text)
		return nil
	}
	var console string
	testenv.Eventually(t, 3*time.Minute, "the guest to run its user data", func() error {
		raw, err := c.Client(t.Context(), Member, "console", "log", "show", "real")
		if console = string(raw); err == nil && !strings.Contains(console, "USER DATA on real") {
			err = fmt.Errorf("the console says %q", console)
		}
		return err
	})
	t.Logf("console: %s", console)
	if err := get(); err == nil {
		t.Error("it answers although no rule of its security group lets anybody in")
	}
	c.OpenStack(t, Member, "security", "group", "rule", "create", "real", "--proto", "tcp", "--dst-port", "80")
	testenv.Eventually(t, 30*time.Second, "the guest to answer", get)
}

func TestACloudOfAnotherKindMakesRoomForTheTime(t *testing.T) {
	testenv.Need(t, testenv.Root, installed(QEMU))
	before, err := Find(DefaultState(Fake))
	if err != nil || !before.Running() {
		if before, err = Up(t.Context(), Options{Progress: t.Output()}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { end(t, before.State(), false) })
	}
	t.Run("meanwhile", func(t *testing.T) {
		c := Start(t, Options{Virt: QEMU})
		if c.Virt() != QEMU || before.Running() {
			t.Errorf("guests of the kind %s; the other one runs = %v", c.Virt(), before.Running())
		}
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("reached from outside its network: %v", err)
		}
		show[[]named](t, c, "server", "list")
	})
	if err := before.Check(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if c, err := Find(DefaultState(QEMU)); err != nil || c.Running() {
		t.Errorf("the other kind still runs (%v)", err)
	}
}
