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
	configFile  string
	receivers   []string
	serviceUser string
	timeout     time.Duration
	output      string
}

func newDoctorCommand(r *remote) *cobra.Command {
	var o doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether what scalehook needs is there and works, and say what is missing",
		Long: `Look whether what scalehook needs is there and works. One line per check: OK, WARN with
what should be known, or WRONG with what would be right. Exit code 1 if anything is
wrong. Nothing is changed.

Without --cloud and --provision everything that the configuration names is asked: the
running server, Prometheus (its configuration, the rules it has loaded, what it
scrapes), Alertmanager (whether the signals reach scalehook, often enough to keep the
leases, and nobody else), the tokens' files, the providers and the balancers.
docs/doctor.md has every check. "scalehook check-config --alertmanager FILE
--prometheus FILE" examines files in the same way and asks nobody.

  --cloud NAME       a cloud of clouds.yaml: its services, whether the credentials may
                     make servers, ports and floating IPs, what the quotas leave, and
                     whether a libvirt with its guests is on this machine (MicroStack's
                     inside its snap too)
  --provision FILE   the same for the cloud of a provisioning file, and the image,
                     flavor and external network that it names`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.cloud != "" && o.file != "" {
				return usageError{errors.New("--cloud NAME and --provision FILE: one at a time")}
			}
			if err := checkFormat(o.output); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("not done after %s (--timeout)", o.timeout))
			defer cancel()
			if o.cloud == "" && o.file == "" {
				return o.lookAtPath(ctx, cmd, r)
			}
			return o.lookAtCloud(ctx, cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.configFile, "config.file", defaultConfigFile, "configuration of the server")
	f.StringVar(&o.configFile, "config", defaultConfigFile, "the same")
	cobra.CheckErr(f.MarkHidden("config")) // fails only for a flag that is not there
	f.StringArrayVar(&o.receivers, "receiver", nil, "Alertmanager's receiver that posts to this scalehook, where its URL does not show it; may be given several times")
	f.StringVar(&o.serviceUser, "service-user", "", "who runs the server (default: scalehook, if there is such a user, else root)")
	f.StringVar(&o.cloud, "cloud", "", "look at a cloud of clouds.yaml")
	f.StringVar(&o.file, "provision", "", "look at the cloud of a provisioning file, and for what the file names")
	r.connection(cmd)
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
