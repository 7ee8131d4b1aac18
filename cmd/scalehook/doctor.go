package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

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
                     make servers, ports and floating IPs, and what the quotas leave
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
	return showChecks(cmd, o.output, p.Doctor(ctx))
}
