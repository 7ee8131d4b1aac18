// Package guest builds the demo's guest: a small bootable qcow2 image made of
// Debian packages (kernel, busybox) and guestd, a web server that keeps book of
// every request it answered. It also holds the Collector, to which the guests
// report, so that what a deleted guest answered stays known.
//
// Nothing is installed and no root is needed: the kernel package is downloaded
// and unpacked into a cache.
package guest

import (
	"context"
	"crypto/sha256"
	_ "embed" // the guest's own files are part of the program
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

//go:embed guestd/main.go
var guestdSource []byte

//go:embed init.sh
var initScript []byte

//go:embed udhcpc.sh
var leaseScript []byte

//go:embed power.sh
var powerScript []byte

// imageMiB is the size of the guest's disk.
const imageMiB = 48

// partitionStart is the first sector of the only partition.
const partitionStart = 2048

// BuildOptions say where the image is built and kept.
type BuildOptions struct {
	// CacheDir keeps the kernel and the images. Empty: CacheDir().
	CacheDir string
	// Agent puts the real qemu-guest-agent into the image. It is an image of its
	// own: the agent's libraries make it larger and slower to boot.
	Agent bool
	// Log gets what is done. Nil: nothing is logged.
	Log *slog.Logger
}

// Image is a guest image that was built.
type Image struct {
	Path   string // qcow2 file, to be copied, not changed
	Kernel string // version of its kernel
	Key    string // changes with whatever goes into the image
}

// CacheDir is where images are kept: $SCALEHOOK_CACHE, else .cache in the
// module's root above the working directory, else the user's cache.
func CacheDir() string {
	if dir := os.Getenv("SCALEHOOK_CACHE"); dir != "" {
		return dir
	}
	if wd, err := os.Getwd(); err == nil {
		for dir := wd; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				return filepath.Join(dir, ".cache")
			}
		}
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "scalehook")
	}
	return filepath.Join(os.TempDir(), "scalehook-cache")
}

// Programs are what Build runs; a missing one makes it fail.
func Programs() []string {
	return []string{"apt-get", "apt-cache", "dpkg-deb", "busybox", "mformat", "mcopy", "syslinux", "qemu-img", "go"}
}

// Build returns the guest image, making it where the cache does not have it.
// It takes a few seconds, a download of the kernel package not counted, and
// gives up when ctx ends. Several may run at once.
func Build(ctx context.Context, opts BuildOptions) (Image, error) {
	if runtime.GOARCH != "amd64" {
		return Image{}, fmt.Errorf("build guest image: only amd64 is supported, this is %s", runtime.GOARCH)
	}
	if opts.CacheDir == "" {
		opts.CacheDir = CacheDir()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	cache, err := filepath.Abs(opts.CacheDir)
	if err != nil {
		return Image{}, fmt.Errorf("build guest image: %w", err)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Image{}, fmt.Errorf("build guest image: %w", err)
	}
	b := &builder{cache: cache, log: opts.Log, withAgent: opts.Agent}
	img, err := b.build(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("build guest image: %w", err)
	}
	return img, nil
}

type builder struct {
	cache     string
	log       *slog.Logger
	withAgent bool
	work      string
}

func (b *builder) build(ctx context.Context) (Image, error) {
	var missing []string
	for _, p := range Programs() {
		if _, err := FindProgram(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return Image{}, fmt.Errorf("programs not found: %s", strings.Join(missing, ", "))
	}
	k, err := b.kernel(ctx)
	if err != nil {
		return Image{}, err
	}
	var agent []guestFile
	if b.withAgent {
		if agent, err = b.agent(ctx); err != nil {
			return Image{}, err
		}
	}
	key, err := imageKey(k, agent)
	if err != nil {
		return Image{}, err
	}
	img := Image{Path: filepath.Join(b.cache, "guest-"+key+".qcow2"), Kernel: k.version, Key: key}
	if _, err := os.Stat(img.Path); err == nil {
		return img, nil
	}
	start := time.Now()
	if b.work, err = os.MkdirTemp(b.cache, "build-"); err != nil {
		return Image{}, fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(b.work)
	guestd, err := b.compileGuestd(ctx)
	if err != nil {
		return Image{}, err
	}
	initrd, err := b.initramfs(ctx, k, guestd, agent)
	if err != nil {
		return Image{}, err
	}
	qcow2, err := b.disk(ctx, k, initrd)
	if err != nil {
		return Image{}, err
	}
	// The rename makes a half-built image impossible and two builders harmless.
	if err := os.Rename(qcow2, img.Path); err != nil {
		return Image{}, fmt.Errorf("put image in place: %w", err)
	}
	b.log.Info("guest image built", "path", img.Path, "kernel", k.version, "took", time.Since(start).Round(time.Millisecond))
	return img, nil
}

// imageKey names the image by all that goes into it, so that a stale image is
// never taken for a new one.
func imageKey(k kernel, agent []guestFile) (string, error) {
	h := sha256.New()
	busybox, err := FindProgram("busybox")
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(busybox)
	if err != nil {
		return "", fmt.Errorf("read busybox: %w", err)
	}
	parts := [][]byte{guestdSource, initScript, leaseScript, powerScript, raw, []byte(k.version), []byte(runtime.Version()), []byte(bootConfig), []byte("1")}
	for _, file := range agent {
		parts = append(parts, []byte(file.name), file.content)
	}
	for _, part := range parts {
		fmt.Fprintf(h, "%d\n", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// compileGuestd compiles the embedded source as a module of its own, so that
// it works from any working directory and from an installed program.
func (b *builder) compileGuestd(ctx context.Context) (string, error) {
	dir := filepath.Join(b.work, "guestd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make guestd folder: %w", err)
	}
	for name, content := range map[string][]byte{"main.go": guestdSource, "go.mod": []byte("module guestd\n\ngo 1.24\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return "", fmt.Errorf("write guestd source: %w", err)
		}
	}
	out := filepath.Join(b.work, "guestd.bin")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod -buildvcs=false", "GOWORK=off", "GOTOOLCHAIN=local", "GOOS=linux", "GOARCH=amd64")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile guestd: %w: %s", err, msg)
	}
	return out, nil
}

// FindProgram returns the path of a program. It looks in the folders of a
// superuser too, which are often missing from an ordinary user's PATH.
func FindProgram(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("program %s: %w", name, exec.ErrNotFound)
}

// run runs a program in dir and returns its standard output.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	path, err := FindProgram(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return "", fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("run %s: %w", name, err)
	}
	return string(out), nil
}
