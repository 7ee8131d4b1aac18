package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Check is one thing that was looked at.
type Check struct {
	// What was looked at.
	What string `json:"what"`
	// OK says that it is as it should be.
	OK bool `json:"ok"`
	// Detail says what was found, and what would be right if it is not OK.
	Detail string `json:"detail,omitempty"`
}

// Failed reports whether one of the checks is not OK.
func Failed(checks []Check) bool {
	for _, c := range checks {
		if !c.OK {
			return true
		}
	}
	return false
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// verifier tries what the file's server should be able to do.
type verifier struct {
	p      *Provisioner
	w      *World
	report []Check
	// dial reaches the server; tests put something else in its place.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// console reads what a guest wrote.
	console func(ctx context.Context, server string) (string, error)
}

// tryFor bounds one attempt; what fails is tried again until ctx ends, since a guest
// takes its time to boot.
const tryFor = 10 * time.Second

// Verify tries the way in through the floating IP and the way out from inside the
// guest, and goes on until everything is OK or ctx ends. The error is for what kept
// it from looking.
func (p *Provisioner) Verify(ctx context.Context) ([]Check, error) {
	w, err := p.c.look(ctx, p.file)
	if err != nil {
		return nil, err
	}
	v := &verifier{p: p, w: w, dial: (&net.Dialer{}).DialContext, console: p.c.console}
	return v.run(ctx)
}

func (v *verifier) ok(what, format string, args ...any) {
	v.report = append(v.report, Check{What: what, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) bad(what, format string, args ...any) {
	v.report = append(v.report, Check{What: what, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) run(ctx context.Context) ([]Check, error) {
	f := v.p.file
	if f.Server == nil {
		return nil, fmt.Errorf("%s: there is no server to verify: add server", f.path)
	}
	seen := planned(f, v.w)
	if err := seen.plan.Err(); err != nil {
		return nil, err
	}
	server, at := seen.server, seen.port
	if seen.replaced() {
		server = &seen.heirs[0]
		at = by(v.w.Ports, func(port Port) bool { return port.Device == server.ID })
	}
	switch {
	case server == nil:
		v.bad("server "+f.Server.Name, "it is not there: scalehook provision %s", f.path)
		return v.report, nil
	case server.Status != "ACTIVE":
		v.bad("server "+server.Name, "its status is %s: openstack server start %s", server.Status, server.ID)
		return v.report, nil
	}
	v.ok("server "+server.Name, "ACTIVE")
	host := ""
	leads := by(v.w.FloatingIPs, func(a FloatingIP) bool { return at != nil && a.Port == at.ID })
	switch {
	case f.FloatingIP == nil:
	case leads == nil:
		v.bad("floating IP", "the server has none: scalehook provision %s", f.path)
	default:
		host = leads.Address.String()
		v.ok("floating IP", "%s", host)
	}
	// Side by side: each goes on until it succeeds or the time is over.
	service, inside := *v, *v
	service.report, inside.report = nil, nil
	var both sync.WaitGroup
	if host != "" && f.Service != nil {
		both.Go(func() { service.service(ctx, host) })
	}
	both.Go(func() { inside.inside(ctx, server.ID, host) })
	both.Wait()
	return slices.Concat(v.report, service.report, inside.report), nil
}

// again repeats an attempt until it succeeds or ctx ends, and returns the last error.
func again(ctx context.Context, attempt func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, tryFor)
		err := attempt(one)
		cancel()
		if err == nil {
			return nil
		}
		if wait(ctx, time.Second) != nil {
			return err
		}
	}
}

// service tries the service's port as a client or a balancer would.
func (v *verifier) service(ctx context.Context, host string) {
	s := v.p.file.Service
	address := net.JoinHostPort(host, strconv.Itoa(int(s.Port)))
	what := "service at " + address
	answer := "takes connections"
	err := again(ctx, func(ctx context.Context) error {
		if s.Path == "" {
			conn, err := v.dial(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+s.Path, nil)
		if err != nil {
			return err
		}
		client := &http.Client{Transport: &http.Transport{DialContext: v.dial, DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		answer = resp.Status
		if resp.StatusCode >= http.StatusBadRequest {
			return errors.New(resp.Status)
		}
		return nil
	})
	if err != nil {
		v.bad(what, "%v: is something listening there, and does the security group open the port to this machine?", err)
		return
	}
	v.ok(what, "%s", answer)
}

// inside tries the way out of the guest: by ssh, or else from the report of its
// first boot.
func (v *verifier) inside(ctx context.Context, server, host string) {
	f := v.p.file
	if f.Server.Report {
		v.reported(ctx, server)
		return
	}
	const what = "login by ssh"
	if host == "" || f.Key == nil || f.Key.PrivateKey == "" {
		v.bad(what, "a floating_ip and key.private_key are needed to look from inside; or write server.report, and the guest says it on its console")
		return
	}
	var conn *ssh.Client
	err := again(ctx, func(ctx context.Context) (err error) {
		conn, err = v.login(ctx, server, host)
		return err
	})
	if err != nil {
		v.bad(what, "%v", err)
		return
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	for _, target := range f.Verify.Outbound {
		for _, t := range trials(target) {
			v.runTrial(ctx, conn, t)
		}
	}
}

func (v *verifier) runTrial(ctx context.Context, conn *ssh.Client, t trial) {
	what := "from inside: " + t.name
	// Three pings that are all lost take longer than another attempt is worth.
	ctx, cancel := context.WithTimeout(ctx, 3*tryFor)
	defer cancel()
	out, err := remotely(ctx, conn, t.command)
	if err != nil {
		v.bad(what, "%v: %s: does the host forward and translate what leaves the cloud (scalehook host show)?", err, lastLine(out))
		return
	}
	v.ok(what, "%s", lastLine(out))
}

// remotely runs a command in the guest.
func remotely(ctx context.Context, conn *ssh.Client, command string) (string, error) {
	session, err := conn.NewSession()
	if err != nil {
		return "", err
	}
	defer func() { _ = session.Close() }() // it ended with the command, or nobody waits for it
	stop := context.AfterFunc(ctx, func() { _ = session.Close() })
	defer stop()
	out, err := session.CombinedOutput(command)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(out), err
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// login connects by ssh. The guest's key is the one that it wrote on its console at
// its first boot; where none can be read there, it is said.
func (v *verifier) login(ctx context.Context, server, host string) (*ssh.Client, error) {
	f := v.p.file
	content, err := os.ReadFile(f.Key.PrivateKey)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Key.PrivateKey, err)
	}
	console, consoleErr := v.console(ctx, server)
	known := hostKeys(console)
	said := "the guest's key was not checked: it is not on its console"
	if consoleErr != nil {
		said = "the guest's key was not checked: " + consoleErr.Error()
	}
	address := net.JoinHostPort(host, "22")
	raw, err := v.dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w: does the security group open port 22 to this machine?", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
	}
	conn, channels, requests, err := ssh.NewClientConn(raw, address, &ssh.ClientConfig{
		User: f.Verify.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: tryFor,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			for _, k := range known {
				if k.Type() != key.Type() {
					continue
				}
				if !bytes.Equal(k.Marshal(), key.Marshal()) {
					return fmt.Errorf("the guest shows the key %s, and wrote %s on its console: something else answers at %s", ssh.FingerprintSHA256(key), ssh.FingerprintSHA256(k), address)
				}
				said = "the guest's key is the one on its console"
			}
			return nil
		},
	})
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	v.ok("login by ssh", "%s@%s; %s", f.Verify.User, host, said)
	return ssh.NewClient(conn, channels, requests), nil
}

// hostKeys finds the keys that cloud-init and CirrOS write on the console, each kind
// as it was written last.
func hostKeys(console string) []ssh.PublicKey {
	var out []ssh.PublicKey
	inside := false
	for text := range strings.Lines(console) {
		switch {
		case strings.Contains(text, "BEGIN SSH HOST KEY KEYS"):
			inside, out = true, nil
		case strings.Contains(text, "END SSH HOST KEY KEYS"):
			inside = false
		case inside:
			for _, kind := range []string{"ssh-", "ecdsa-"} {
				i := strings.Index(text, kind)
				if i < 0 {
					continue
				}
				if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text[i:])); err == nil {
					out = append(out, key)
				}
				break
			}
		}
	}
	return out
}

// reported reads the report of the first boot from the console, and waits for its end.
func (v *verifier) reported(ctx context.Context, server string) {
	var results map[string]bool
	err := again(ctx, func(ctx context.Context) error {
		text, err := v.console(ctx, server)
		if err != nil {
			return err
		}
		var complete bool
		if results, complete = parseReport(text); !complete {
			return errors.New("the guest has not said everything on its console yet")
		}
		return nil
	})
	if err != nil {
		v.bad("report of the first boot", "%v", err)
	}
	for _, host := range v.p.file.Verify.Outbound {
		for _, t := range trials(host) {
			what := "from inside, at the first boot: " + t.name
			switch ok, said := results[t.name]; {
			case !said:
				v.bad(what, "the guest said nothing of it")
			case ok:
				v.ok(what, "")
			default:
				v.bad(what, "it failed: does the host forward and translate what leaves the cloud (scalehook host show)?")
			}
		}
	}
}
