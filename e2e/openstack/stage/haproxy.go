package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/e2e/chain"
)

// HAProxy is a running HAProxy with one backend, web, that begins empty.
type HAProxy struct {
	*Process

	Address  string // of its frontend
	Socket   string // Runtime API
	Master   string // socket of its master
	Fragment string // file with the backend, which scalehook writes
	Template string // of the fragment
}

// StartHAProxy starts HAProxy and waits until its Runtime API answers.
func (s *Stage) StartHAProxy(ctx context.Context) (*HAProxy, error) {
	h := &HAProxy{Socket: s.Path("haproxy", "admin.sock"), Master: s.Path("haproxy", "master.sock")}
	var err error
	if h.Address, err = FreeAddress(ctx); err != nil {
		return nil, err
	}
	if h.Fragment, err = s.Write("haproxy/web.cfg", chain.EmptyBackend, 0o644); err != nil {
		return nil, err
	}
	if h.Template, err = s.Write("haproxy/web.tmpl", chain.BackendTemplate, 0o644); err != nil {
		return nil, err
	}
	config, err := s.Write("haproxy/haproxy.cfg", chain.HAProxy(h.Socket, h.Address), 0o644)
	if err != nil {
		return nil, err
	}
	h.Process, err = s.Start(ctx, Spec{
		Name: "haproxy", Path: "haproxy", Args: []string{"-W", "-S", h.Master + ",mode,600,level,admin", "-f", config, "-f", h.Fragment},
		Ready: func(ctx context.Context) error {
			_, err := h.Ask(ctx, "show info")
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Ask sends one command to the Runtime API and returns the answer.
func (h *HAProxy) Ask(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", h.Socket)
	if err != nil {
		return "", fmt.Errorf("ask HAProxy: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", fmt.Errorf("ask HAProxy: %w", err)
		}
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", fmt.Errorf("ask HAProxy %q: %w", command, err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil {
		return "", fmt.Errorf("ask HAProxy %q: %w", command, err)
	}
	return string(raw), nil
}

// Taking lists the addresses of the members that HAProxy gives new requests to: up,
// and neither draining nor in maintenance.
func (h *HAProxy) Taking(ctx context.Context) ([]string, error) {
	text, err := h.Ask(ctx, "show stat")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimPrefix(text, "# "), "\n")
	header := strings.Split(lines[0], ",")
	status, address, name, proxy := slices.Index(header, "status"), slices.Index(header, "addr"), slices.Index(header, "svname"), slices.Index(header, "pxname")
	if min(status, address, name, proxy) < 0 {
		return nil, errors.New("HAProxy's statistics lack a column")
	}
	var out []string
	for _, line := range lines[1:] {
		f := strings.Split(line, ",")
		if len(f) == len(header) && f[proxy] == "web" && f[name] != "BACKEND" && strings.HasPrefix(f[status], "UP") {
			out = append(out, f[address])
		}
	}
	slices.Sort(out)
	return out, nil
}
