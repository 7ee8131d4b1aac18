package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
)

// trialDeadline is how long the guest may take to boot in a trial. Under a KVM
// that works it takes 1 to 2 s.
const trialDeadline = 12 * time.Second

// DomainType is the libvirt domain type to use: "kvm" where KVM really boots
// the guest, else "qemu". The device node proves nothing, and neither does a
// boot sector: on some machines both work and a kernel never comes up. The
// trial takes at most 12 s; its result is kept in the cache folder until the
// machine boots again. $SCALEHOOK_DOMAIN_TYPE overrides it.
func (l *Lab) DomainType(ctx context.Context) string {
	l.kindOnce.Do(func() { l.kind = l.chooseDomainType(ctx) })
	return l.kind
}

func (l *Lab) chooseDomainType(ctx context.Context) string {
	if kind := os.Getenv("SCALEHOOK_DOMAIN_TYPE"); kind == "kvm" || kind == "qemu" {
		return kind
	}
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil || f.Close() != nil {
		l.log.Info("no KVM on this machine, VMs are emulated")
		return "qemu"
	}
	img, err := guest.Build(ctx, guest.BuildOptions{Log: l.log})
	if err != nil {
		l.log.Warn("KVM was not tried, VMs are emulated", "err", err)
		return "qemu"
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		l.log.Warn("KVM was not tried, VMs are emulated", "err", err)
		return "qemu"
	}
	note := filepath.Join(filepath.Dir(img.Path), "kvm-trial")
	if raw, err := os.ReadFile(note); err == nil {
		if kind, ok := strings.CutPrefix(string(raw), string(boot)); ok && (kind == "kvm" || kind == "qemu") {
			return kind
		}
	}
	began := time.Now()
	kind := "qemu"
	err = bootsUnder(ctx, "kvm", img.Path)
	if err == nil {
		kind = "kvm"
	}
	l.log.Info("tried to boot the guest under KVM", "domain_type", kind, "took", time.Since(began).Round(time.Millisecond), "err", err)
	if ctx.Err() == nil {
		if err := os.WriteFile(note, []byte(string(boot)+kind), 0o644); err != nil {
			l.log.Warn("the result of the trial is not kept", "err", err)
		}
	}
	return kind
}

// bootsUnder boots the guest under an accelerator until it says READY.
func bootsUnder(ctx context.Context, accelerator, image string) error {
	qemu, err := guest.FindProgram("qemu-system-x86_64")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, trialDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-accel", accelerator, "-m", "128", "-nodefaults", "-display", "none", "-serial", "stdio",
		"-drive", "file="+image+",format=qcow2,if=virtio,snapshot=on")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	console, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("boot under %s: %w", accelerator, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("boot under %s: %w", accelerator, err)
	}
	ready := false
	for lines := bufio.NewScanner(console); lines.Scan(); {
		if strings.Contains(lines.Text(), "READY host=") {
			ready = true
			break
		}
	}
	expired := ctx.Err()
	cancel()
	werr := cmd.Wait()
	switch {
	case ready:
		return nil
	case expired != nil:
		return fmt.Errorf("boot under %s: not up within %s: %w", accelerator, trialDeadline, expired)
	default:
		return fmt.Errorf("boot under %s: QEMU ended: %w", accelerator, werr)
	}
}
