package box

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/scalehook/scalehook/e2e/lab"
)

// Dial connects from inside the box.
func (b *Box) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = b.inside(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens in the box; the caller may accept from anywhere.
func (b *Box) Listen(ctx context.Context, network, address string) (listener net.Listener, err error) {
	err = b.inside(func() error {
		listener, err = (&net.ListenConfig{}).Listen(ctx, network, address)
		return err
	})
	return listener, err
}

func (b *Box) inside(fn func() error) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.pid))
	if err != nil {
		return fmt.Errorf("enter the box: %w", err)
	}
	defer ns.Close()
	return lab.InNetwork(ns, fn)
}
