// Command scalehook-exporter serves Prometheus metrics of the domains of one
// libvirt daemon. It only reads.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, pflag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "scalehook-exporter:", err)
		os.Exit(1)
	}
}

// run is the program without the process: it serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stdout)
	if err != nil || o.done {
		return err
	}
	return serve(ctx, o, stderr)
}
