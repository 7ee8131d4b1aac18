package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/exporter"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/provision"
)

// doctorFlags say what is looked at.
type doctorFlags struct {
	cloud, file string
	timeout     time.Duration
	output      string
}

func newDoctorCommand() *cobra.Command {
	var o doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether what scalehook needs is there, and say what is missing",
		Long: `Look whether what scalehook needs is there. One line per check: OK, or what is missing
and what would be right. Exit code 1 if anything is. Nothing is changed.

  --cloud NAME       a cloud of clouds.yaml: its services, whether the credentials may
                     make servers, ports and floating IPs, what the quotas leave, and
                     whether a libvirt with its guests is on this machine (MicroStack's
                     inside its snap too)
  --provision FILE   the same for the cloud of a provisioning file, and the image,
                     flavor and external network that it names`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (o.cloud == "") == (o.file == "") {
				return usageError{errors.New("say what to look at: --cloud NAME or --provision FILE")}
			}
			if err := checkFormat(o.output); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("not done after %s (--timeout)", o.timeout))
			defer cancel()
			return o.lookAtCloud(ctx, cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.cloud, "cloud", "", "look at a cloud of clouds.yaml")
	f.StringVar(&o.file, "provision", "", "look at the cloud of a provisioning file, and for what the file names")
	cloudFlags(cmd, &o.timeout, &o.output, time.Minute)
	return cmd
}

// lookAtCloud examines one cloud.
func (o doctorFlags) lookAtCloud(ctx context.Context, cmd *cobra.Command) error {
	file := &provision.File{Cloud: cloud.Config{Cloud: o.cloud}}
	if o.file != "" {
		var err error
		if file, err = provision.Load(o.file); err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), err)
			return errReported
		}
	}
	p, err := provision.Open(file, toStderr(cmd))
	if err != nil {
		return err
	}
	defer p.Close()
	return showChecks(cmd, o.output, append(p.Doctor(ctx), hypervisor(ctx, exporter.KnownSockets())))
}

// hypervisor looks for the libvirt daemon that runs the cloud's guests, where it may
// be on this machine: their CPU comes from an exporter beside it.
func hypervisor(ctx context.Context, places exporter.Sockets) provision.Check {
	c := provision.Check{What: "CPU of the guests", OK: true}
	place, ok := places.First()
	if !ok {
		c.Detail = "no libvirt on this machine: run scalehook-exporter beside Nova's libvirt, or node-exporter in the guests (rules/guests.yml)"
		return c
	}
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", place.Path)
	if err != nil {
		c.OK = false
		c.Detail = fmt.Sprintf("the libvirt socket %s cannot be used (%v): start the daemon, or give the exporter's user the rights (group libvirt)", place.Path, err)
		return c
	}
	if err := conn.Close(); err != nil {
		c.OK, c.Detail = false, err.Error()
		return c
	}
	c.Detail = "scalehook-exporter finds libvirt at " + place.Path
	return c
}
