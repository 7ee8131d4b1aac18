package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// agentPackage holds the guest agent, the daemon that tells libvirt about the
// inside of a guest.
const agentPackage = "qemu-guest-agent"

// agentModules are its serial port, and network cards that no host made.
func agentModules() []string { return []string{"virtio_console", "dummy"} }

// guestFile is a file of the host's or of a package, for the guest.
type guestFile struct {
	name    string // in the guest, without the leading slash
	content []byte
}

// agent returns the real qemu-guest-agent and the libraries that it needs. They
// are this machine's, where QEMU is installed, which needs the same ones.
func (b *builder) agent(ctx context.Context) ([]guestFile, error) {
	dir := filepath.Join(b.cache, "agent")
	find := func() (string, error) {
		program := filepath.Join(dir, "usr", "sbin", "qemu-ga")
		if _, err := os.Stat(program); err != nil {
			return "", fmt.Errorf("find the guest agent: %w", err)
		}
		return program, nil
	}
	program, err := find()
	if err != nil {
		if err := b.fetch(ctx, dir, []string{agentPackage}); err != nil {
			return nil, err
		}
		if program, err = find(); err != nil {
			return nil, err
		}
	}
	listed, err := run(ctx, "", "ldd", program)
	if err != nil {
		return nil, fmt.Errorf("list the agent's libraries: %w", err)
	}
	libraries, err := librariesOf(listed)
	if err != nil {
		return nil, err
	}
	libraries["bin/qemu-ga"] = program
	var files []guestFile
	for _, name := range slices.Sorted(maps.Keys(libraries)) {
		raw, err := os.ReadFile(libraries[name])
		if err != nil {
			return nil, fmt.Errorf("read the guest agent: %w", err)
		}
		files = append(files, guestFile{name, raw})
	}
	return files, nil
}

var (
	foundLibrary = regexp.MustCompile(`^\s*(\S+) => (/\S+) \(0x`)
	loader       = regexp.MustCompile(`^\s*/(lib\S*/ld\S+) \(0x`)
)

// librariesOf reads what ldd prints: the files, by where the guest has them.
func librariesOf(listed string) (map[string]string, error) {
	files := map[string]string{}
	var missing []string
	for line := range strings.Lines(listed) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), " => not found"); ok {
			missing = append(missing, name)
		} else if m := foundLibrary.FindStringSubmatch(line); m != nil {
			files["lib/"+m[1]] = m[2]
		} else if m := loader.FindStringSubmatch(line); m != nil {
			files[m[1]] = "/" + m[1]
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("libraries of %s: %s (they come with qemu-system-x86): %w", agentPackage, strings.Join(missing, ", "), fs.ErrNotExist)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("libraries of %s: ldd names none: %w", agentPackage, fs.ErrNotExist)
	}
	return files, nil
}

// fetch downloads packages and unpacks them into a folder of the cache, which
// must not be there.
func (b *builder) fetch(ctx context.Context, dir string, names []string) error {
	tmp, err := os.MkdirTemp(b.cache, "fetch-")
	if err != nil {
		return fmt.Errorf("make download folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	b.log.Info("downloading for the guest", "packages", names)
	// apt fetches as a user of its own where it may; it has to reach the folder.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("open download folder: %w", err)
	}
	if _, err := run(ctx, tmp, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, names...)...); err != nil {
		return fmt.Errorf("download %s: %w", strings.Join(names, ", "), err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("download %s: no package came (%w)", strings.Join(names, ", "), errors.Join(err, fs.ErrNotExist))
	}
	for _, deb := range debs {
		if _, err := run(ctx, tmp, "dpkg-deb", "-x", deb, filepath.Join(tmp, "root")); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
	}
	if err := os.Rename(filepath.Join(tmp, "root"), dir); err != nil {
		if _, there := os.Stat(dir); there == nil {
			return nil // somebody else was faster: theirs is as good
		}
		return fmt.Errorf("put %s in place: %w", strings.Join(names, ", "), err)
	}
	return nil
}
