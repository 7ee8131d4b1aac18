package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// kernelPackages are the packages whose dependency names the kernel, the
// smallest first. The last is Ubuntu's.
func kernelPackages() []string {
	return []string{"linux-image-cloud-amd64", "linux-image-amd64", "linux-image-virtual"}
}

// guestModules are what the guest always loads: virtio devices and the power
// button. What a kernel has built in is not found and not missed.
func guestModules() []string {
	return []string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_balloon", "virtio_rng", "button", "evdev"}
}

// seedModules are the file systems of a seed disk, loaded when there is a
// second disk, and cdromModules the drives it may be in. Probing for drives
// costs an emulated guest about as much as the rest of its boot.
func seedModules() []string {
	return []string{"isofs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859_1"}
}

func cdromModules() []string { return []string{"cdrom", "sr_mod", "ata_piix", "ahci"} }

// kernel is an unpacked kernel package.
type kernel struct {
	version string
	image   string // the bootable file
	modules string // folder of its modules
}

// kernel returns the cached kernel, downloading it the first time.
func (b *builder) kernel(ctx context.Context) (kernel, error) {
	dir := filepath.Join(b.cache, "kernel")
	if k, err := findKernel(dir); err == nil {
		return k, nil
	}
	names, err := kernelPackageNames(ctx)
	if err != nil {
		return kernel{}, err
	}
	if err := b.fetch(ctx, dir, names); err != nil {
		return kernel{}, fmt.Errorf("download kernel: %w", err)
	}
	return findKernel(dir)
}

func findKernel(dir string) (kernel, error) {
	found, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(found) == 0 {
		return kernel{}, fmt.Errorf("find kernel in %s: %w", dir, errors.Join(err, fs.ErrNotExist))
	}
	version := strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-")
	modules := filepath.Join(dir, "lib", "modules", version)
	if _, err := os.Stat(modules); err != nil {
		modules = filepath.Join(dir, "usr", "lib", "modules", version)
		if _, err := os.Stat(modules); err != nil {
			return kernel{}, fmt.Errorf("find the modules of kernel %s: %w", version, err)
		}
	}
	return kernel{version: version, image: found[0], modules: modules}, nil
}

var kernelDependency = regexp.MustCompile(`(?m)^\s*\|?Depends:\s*(linux-image-[0-9]\S*)`)

// kernelPackageNames asks apt which package holds the current kernel. Ubuntu
// keeps the modules in a package of their own.
func kernelPackageNames(ctx context.Context) ([]string, error) {
	var errs []error
	for _, meta := range kernelPackages() {
		out, err := run(ctx, "", "apt-cache", "depends", meta)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m := kernelDependency.FindStringSubmatch(out)
		if m == nil {
			continue
		}
		names := []string{m[1]}
		modules := strings.Replace(m[1], "linux-image-", "linux-modules-", 1)
		if shown, err := run(ctx, "", "apt-cache", "show", modules); err == nil && shown != "" {
			names = append(names, modules)
		}
		return names, nil
	}
	return nil, fmt.Errorf("no kernel package known to apt (tried %s; is `apt-get update` missing?): %w",
		strings.Join(kernelPackages(), ", "), errors.Join(append(errs, fs.ErrNotExist)...))
}

// A module is a kernel module to be loaded.
type module struct {
	file    string // base name in the guest, without compression
	content []byte
}

// modules returns the named modules and what they need, dependencies first. They
// are read from the modules themselves: an unpacked package has no modules.dep.
func (b *builder) modules(ctx context.Context, k kernel, names []string) ([]module, error) {
	files := map[string]string{}
	err := filepath.WalkDir(k.modules, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok {
			files[moduleName(name)] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	var out []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		path, ok := files[name]
		if seen[name] || !ok {
			return nil
		}
		seen[name] = true
		raw, err := readModule(ctx, path)
		if err != nil {
			return err
		}
		needs, err := moduleDependencies(raw)
		if err != nil {
			return fmt.Errorf("read module %s: %w", path, err)
		}
		for _, need := range needs {
			if err := add(need); err != nil {
				return err
			}
		}
		out = append(out, module{file: name + ".ko", content: raw})
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// moduleName is the kernel's own spelling: a file may have dashes.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

func readModule(ctx context.Context, path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".zst":
		out, err := run(ctx, "", "zstd", "-dcq", path)
		return []byte(out), err
	case ".xz":
		out, err := run(ctx, "", "xz", "-dc", path)
		return []byte(out), err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	return raw, nil
}

func moduleDependencies(raw []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("parse ELF: %w", err)
	}
	info := f.Section(".modinfo")
	if info == nil {
		return nil, errors.New("no .modinfo section")
	}
	data, err := info.Data()
	if err != nil {
		return nil, fmt.Errorf("read .modinfo: %w", err)
	}
	for field := range strings.SplitSeq(string(data), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
