package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// newerRelease is the release of Debian whose Open vSwitch is run where the machine's
// own is unstable.
const newerRelease = "trixie"

// unstable are the versions of Open vSwitch whose user space datapath now and then
// aborts on connections with translated addresses, for which it kept two entries
// (conn_update_state in lib/conntrack.c). Later ones keep one.
var unstable = regexp.MustCompile(`\(Open vSwitch\) (2\.|3\.[01]\.)`)

// switchPackages are the newer Open vSwitch and the libraries that it is linked to,
// by their names in newerRelease. They are unpacked and never installed.
func switchPackages() []string {
	return []string{
		"openvswitch-switch", "openvswitch-common", "libc6", "libbpf1", "libcap-ng0", "libelf1t64", "libevent-2.1-7t64",
		"libnuma1", "libssl3t64", "libunbound8", "libxdp1", "libzstd1", "zlib1g",
	}
}

// fetchSwitch sees to it that vswitchd does not name a program that aborts. Where no
// newer one can be had, the machine's own is run, again after each abort.
func (u *bringUp) fetchSwitch(ctx context.Context) error {
	version, err := exec.CommandContext(ctx, "/usr/sbin/ovs-vswitchd", "--version").Output()
	if err != nil {
		return fmt.Errorf("ask Open vSwitch for its version: %w", err)
	}
	if !unstable.Match(version) || exists(u.path("switch", ".done")) {
		return nil
	}
	line, _, _ := strings.Cut(string(version), "\n")
	if err := u.unpackSwitch(ctx); err != nil {
		if err := os.RemoveAll(u.path("switch")); err != nil {
			return fmt.Errorf("leave out the newer Open vSwitch: %w", err)
		}
		u.say("%s aborts now and then, and no newer one can be had: %v", line, err)
		return nil
	}
	u.say("fetched a newer Open vSwitch: %s aborts now and then", line)
	return nil
}

func (u *bringUp) unpackSwitch(ctx context.Context) error {
	mirror, err := debianMirror(ctx)
	if err != nil {
		return err
	}
	// Lists, cache and status of its own: the machine's apt stays as it is.
	apt := u.path("apt")
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(apt, dir), 0o755); err != nil {
			return fmt.Errorf("fetch Open vSwitch: %w", err)
		}
	}
	source := fmt.Sprintf("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", mirror, newerRelease)
	if err := errors.Join(replaceFile(filepath.Join(apt, "sources"), []byte(source), 0o644), replaceFile(filepath.Join(apt, "status"), nil, 0o644)); err != nil {
		return fmt.Errorf("fetch Open vSwitch: %w", err)
	}
	options := []string{
		"-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none",
		"-o", "Dir::Etc::SourceParts=/dev/null", "-o", "Dir::Etc::PreferencesParts=/dev/null",
	}
	for name, value := range map[string]string{
		"Dir::Etc::SourceList": "sources", "Dir::State::Lists": "lists", "Dir::State::status": "status", "Dir::Cache": "cache",
	} {
		options = append(options, "-o", name+"="+filepath.Join(apt, value))
	}
	for _, do := range [][]string{{"update"}, append([]string{"download"}, switchPackages()...)} {
		command := exec.CommandContext(ctx, "apt-get", append(options, do...)...)
		command.Dir = filepath.Join(apt, "debs")
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("fetch Open vSwitch: apt-get %s: %w: %s", do[0], err, bytes.TrimSpace(out))
		}
	}
	if err := unpackAll(ctx, filepath.Join(apt, "debs"), u.path("switch")); err != nil {
		return err
	}
	program := u.vswitchd()
	if out, err := exec.CommandContext(ctx, program[0], append(program[1:], "--version")...).CombinedOutput(); err != nil {
		return fmt.Errorf("run the fetched Open vSwitch: %w: %s", err, bytes.TrimSpace(out))
	}
	return replaceFile(u.path("switch", ".done"), nil, 0o644)
}

// debianMirror is where the machine's apt has Debian from.
func debianMirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Component: main").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for its mirror: %w", err)
	}
	mirror, _, _ := strings.Cut(string(out), "\n")
	if mirror == "" {
		return "", errors.New("ask apt for its mirror: it has none of Debian")
	}
	return mirror, nil
}

// vswitchd is the command that runs Open vSwitch: the fetched one with the loader
// and libraries that came along, where there is one.
func (c *Cloud) vswitchd() []string {
	loader, err := filepath.Glob(c.path("switch", "usr", "lib", "*-linux-gnu*", "ld-linux*.so.*"))
	if err != nil || len(loader) == 0 {
		return []string{"ovs-vswitchd"}
	}
	return []string{loader[0], "--library-path", filepath.Dir(loader[0]), c.path("switch", "usr", "lib", "openvswitch-switch", "ovs-vswitchd")}
}

// switchSchema describes the database of the Open vSwitch that vswitchd runs.
func (c *Cloud) switchSchema() string {
	const schema = "/usr/share/openvswitch/vswitch.ovsschema"
	if fetched := c.path("switch") + schema; exists(fetched) {
		return fetched
	}
	return schema
}

// unpackAll unpacks the packages of a folder into another one.
func unpackAll(ctx context.Context, debs, into string) error {
	found, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("unpack %s: no package is there (%w)", debs, errors.Join(err, fs.ErrNotExist))
	}
	for _, deb := range found {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, into).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", deb, err, bytes.TrimSpace(out))
		}
	}
	return nil
}
