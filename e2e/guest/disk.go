package guest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// bootConfig is the boot loader's configuration.
const bootConfig = `DEFAULT l
PROMPT 0
TIMEOUT 0
LABEL l
 KERNEL /vmlinuz
 INITRD /initrd.gz
 APPEND console=ttyS0 quiet panic=5 mitigations=off tsc=reliable random.trust_cpu=on net.ifnames=0 no_timer_check
`

// Modes of the files in the initramfs.
const (
	modeDir     = 0o040755
	modeProgram = 0o100755
	modeFile    = 0o100644
	modeLink    = 0o120777
	modeConsole = 0o020600
)

// initramfs writes the guest's root file system and returns its path.
func (b *builder) initramfs(ctx context.Context, k kernel, guestd string, agent []guestFile) (string, error) {
	out := filepath.Join(b.work, "initrd.gz")
	f, err := os.Create(out)
	if err != nil {
		return "", fmt.Errorf("create initramfs: %w", err)
	}
	defer f.Close()
	zip, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return "", fmt.Errorf("create initramfs: %w", err)
	}
	c := &cpio{w: zip}
	for _, dir := range []string{
		".", "bin", "sbin", "dev", "proc", "sys", "etc", "etc/acpi", "etc/acpi/PWRF", "run", "tmp", "mnt",
		"usr", "usr/share", "usr/share/udhcpc", "lib", "lib/modules", "lib64",
	} {
		c.add(dir, modeDir, nil)
	}
	c.device("dev/console", modeConsole, 5, 1)
	if err := addPrograms(ctx, c, guestd); err != nil {
		return "", err
	}
	for _, file := range agent {
		c.add(file.name, modeProgram, file.content)
	}
	added := map[string]bool{}
	lists := map[string][]string{"always": guestModules(), "seed": seedModules(), "cdrom": cdromModules()}
	if len(agent) > 0 {
		lists["agent"] = agentModules()
	}
	for list, names := range lists {
		mods, err := b.modules(ctx, k, names)
		if err != nil {
			return "", err
		}
		var lines strings.Builder
		for _, m := range mods {
			name := "lib/modules/" + m.file
			if !added[name] {
				c.add(name, modeFile, m.content)
			}
			added[name] = true
			fmt.Fprintf(&lines, "/%s\n", name)
		}
		c.add("etc/modules-"+list, modeFile, []byte(lines.String()))
	}
	c.add("init", modeProgram, initScript)
	c.add("usr/share/udhcpc/default.script", modeProgram, leaseScript)
	c.add("etc/acpi/PWRF/00000080", modeProgram, powerScript)
	c.add("etc/acpid.conf", modeFile, []byte("PWRF PWRF/00000080\n"))
	c.close()
	if c.err != nil {
		return "", fmt.Errorf("write initramfs: %w", c.err)
	}
	if err := zip.Close(); err != nil {
		return "", fmt.Errorf("write initramfs: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("write initramfs: %w", err)
	}
	return out, nil
}

func addPrograms(ctx context.Context, c *cpio, guestd string) error {
	busybox, err := FindProgram("busybox")
	if err != nil {
		return err
	}
	for name, file := range map[string]string{"bin/busybox": busybox, "bin/guestd": guestd} {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read program: %w", err)
		}
		c.add(name, modeProgram, raw)
	}
	applets, err := run(ctx, "", "busybox", "--list")
	if err != nil {
		return err
	}
	for applet := range strings.FieldsSeq(applets) {
		if applet != "busybox" {
			c.add(path.Join("bin", applet), modeLink, []byte("busybox"))
		}
	}
	return nil
}

// disk makes the bootable disk: one FAT partition, boot loader, kernel and
// initramfs, converted to qcow2.
func (b *builder) disk(ctx context.Context, k kernel, initrd string) (string, error) {
	raw, cfg := filepath.Join(b.work, "disk.raw"), filepath.Join(b.work, "syslinux.cfg")
	if err := os.WriteFile(cfg, []byte(bootConfig), 0o644); err != nil {
		return "", fmt.Errorf("write boot configuration: %w", err)
	}
	boot, err := os.ReadFile("/usr/lib/syslinux/mbr/mbr.bin")
	if err != nil {
		return "", fmt.Errorf("read boot sector (package syslinux-common): %w", err)
	}
	f, err := os.Create(raw)
	if err != nil {
		return "", fmt.Errorf("create disk: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(imageMiB << 20); err != nil {
		return "", fmt.Errorf("create disk: %w", err)
	}
	if _, err := f.Write(masterBootRecord(boot, imageMiB<<11)); err != nil {
		return "", fmt.Errorf("write partition table: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("write partition table: %w", err)
	}
	offset := strconv.Itoa(partitionStart * 512)
	part, out := raw+"@@"+offset, filepath.Join(b.work, "guest.qcow2")
	for _, args := range [][]string{
		{"mformat", "-i", part, "-T", strconv.Itoa(imageMiB<<11 - partitionStart), "-h", "16", "-s", "63", "-H", strconv.Itoa(partitionStart), "-v", "GUEST", "::"},
		{"mcopy", "-i", part, k.image, "::/vmlinuz"},
		{"mcopy", "-i", part, initrd, "::/initrd.gz"},
		{"mcopy", "-i", part, cfg, "::/syslinux.cfg"},
		{"syslinux", "--install", "--offset", offset, raw},
		{"qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1", raw, out},
	} {
		if _, err := run(ctx, b.work, args[0], args[1:]...); err != nil {
			return "", fmt.Errorf("make disk: %w", err)
		}
	}
	return out, nil
}

// masterBootRecord is the first sector: boot code and one bootable FAT16 partition.
func masterBootRecord(code []byte, sectors uint32) []byte {
	mbr := make([]byte, 512)
	copy(mbr[:440], code)
	entry := mbr[446:]
	copy(entry, []byte{0x80, 0xfe, 0xff, 0xff, 0x0e, 0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], partitionStart)
	binary.LittleEndian.PutUint32(entry[12:], sectors-partitionStart)
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}

// cpio writes the "newc" archive that the kernel unpacks as its initramfs.
type cpio struct {
	w     io.Writer
	inode int
	err   error
}

func (c *cpio) add(name string, mode uint32, content []byte) { c.entry(name, mode, 0, 0, content) }

func (c *cpio) device(name string, mode, major, minor uint32) { c.entry(name, mode, major, minor, nil) }

func (c *cpio) close() { c.entry("TRAILER!!!", 0, 0, 0, nil) }

func (c *cpio) entry(name string, mode, major, minor uint32, content []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	var b bytes.Buffer
	fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name)
	b.Write(make([]byte, -b.Len()&3))
	b.Write(content)
	b.Write(make([]byte, -len(content)&3))
	_, c.err = c.w.Write(b.Bytes())
}
