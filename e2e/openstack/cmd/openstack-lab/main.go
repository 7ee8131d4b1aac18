// Command openstack-lab brings up a real OpenStack on this machine, for tests and
// to try things on, and ends it again; see docs/openstack-lab.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
)

const usage = `usage: openstack-lab up|down|status [flags]

up       bring a cloud up, or what is missing of one; it stays up
down     end every process of it; with --wipe remove what it stored, too
status   say what runs; the exit code is 0 if everything does

flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "openstack-lab: %v\n", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("openstack-lab", flag.ContinueOnError)
	virt := flags.String("virt", string(lab.Fake), "what the guests are: fake (pretended, they take orders) or qemu")
	octavia := flags.Bool("octavia", true, "with the load balancer service (up)")
	state := flags.String("state", "", "`folder` of the cloud (default "+lab.DefaultState(lab.Fake)+", with --virt qemu "+lab.DefaultState(lab.QEMU)+")")
	private := flags.Bool("private", false, "keep its ports in a network namespace of its own (up)")
	wipe := flags.Bool("wipe", false, "remove what the cloud stored, too (down)")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	verb := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0, nil
		}
		return 2, nil // it has said why
	}
	if flags.NArg() > 0 {
		flags.Usage()
		return 2, fmt.Errorf("%q: not expected", flags.Arg(0))
	}
	if *state == "" {
		*state = lab.DefaultState(lab.Virt(*virt))
	}
	switch verb {
	case "up":
		_, err := lab.Up(ctx, lab.Options{Virt: lab.Virt(*virt), Octavia: *octavia, Private: *private, State: *state, Progress: os.Stdout})
		return exitCode(err), err
	case "down":
		return down(ctx, *state, *wipe)
	case "status":
		return status(ctx, *state)
	}
	flags.Usage()
	return 2, nil
}

func exitCode(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

func down(ctx context.Context, state string, wipe bool) (int, error) {
	cloud, err := lab.Find(state)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Printf("There is no cloud in %s.\n", state)
		return 0, nil
	}
	if err != nil {
		return 1, err
	}
	if err := cloud.Down(ctx, wipe); err != nil {
		return 1, err
	}
	fmt.Printf("The cloud of %s is down.\n", state)
	return 0, nil
}

func status(ctx context.Context, state string) (int, error) {
	cloud, err := lab.Find(state)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Printf("There is no cloud in %s.\n", state)
		return 1, nil
	}
	if err != nil {
		return 1, err
	}
	if !cloud.Running() {
		fmt.Printf("The cloud of %s does not run.\n", state)
		return 1, nil
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, p := range cloud.Processes() {
		pid := "-"
		if p.PID != 0 {
			pid = strconv.Itoa(p.PID)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", p.Name, pid, p.State)
	}
	if err := table.Flush(); err != nil {
		return 1, fmt.Errorf("print: %w", err)
	}
	if err := cloud.Check(ctx); err != nil {
		return 1, err
	}
	fmt.Printf("The cloud of %s, with guests of the kind %s, works. %s\n", state, cloud.Virt(), cloud.CloudsFile())
	return 0, nil
}
