package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/testenv"
)

func TestCommandLineThatIsWrongSaysWhatWouldBeRight(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"an unknown flag", []string{"--collector.gpu"}, "read the command line: unknown flag: --collector.gpu (see --help)"},
		{"an argument", []string{"start"}, `unexpected argument "start": everything is a flag (see --help)`},
		{"a path without a slash", []string{"--web.telemetry-path=metrics"}, `--web.telemetry-path is "metrics"; it must start with / and be neither / nor below /-/`},
		{"a path that hides the landing page", []string{"--web.telemetry-path=/"}, `--web.telemetry-path is "/"; it must start with / and be neither / nor below /-/`},
		{"two mistakes", []string{"--web.max-requests=-1", "--scrape.timeout=0s"}, "--web.max-requests is -1; it must be 0 or more\nthe scrape timeout is 0s; it must be more than 0"},
		{"a level", []string{"--log.level=loud"}, `read the command line: invalid argument "loud" for "--log.level" flag: unrecognized log level loud (see --help)`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := run(t.Context(), test.args, io.Discard, io.Discard)
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestHelpAndVersionAreAnswered(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &out, io.Discard); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
	for _, flag := range []string{"--web.listen-address", "--web.config.file", "--libvirt.uri", "--collector.vcpu", "--log.level"} {
		if !strings.Contains(out.String(), flag) {
			t.Errorf("--help does not name %s", flag)
		}
	}
	out.Reset()
	if err := run(t.Context(), []string{"--version"}, &out, io.Discard); err != nil {
		t.Errorf("--version: %v", err)
	}
	if !strings.HasPrefix(out.String(), "scalehook-exporter, version ") {
		t.Errorf("--version prints %q", out.String())
	}
}

func TestTheManualPageHasEveryFlagAndIsTheSameEveryTime(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1760000000")
	var help, first, second bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &help, io.Discard); !errors.Is(err, pflag.ErrHelp) {
		t.Fatal(err)
	}
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := run(t.Context(), []string{"--help-man"}, out, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("the page is another the second time")
	}
	if want := `.TH "SCALEHOOK\-EXPORTER" 1 "2025\-10\-09" "scalehook\-exporter`; !strings.HasPrefix(first.String(), want) {
		t.Errorf("the page does not begin with %s:\n%s", want, &first)
	}
	flags := regexp.MustCompile(`(?m)^ +(?:-\w, )?--([\w.-]+)`).FindAllStringSubmatch(help.String(), -1)
	if len(flags) < 15 {
		t.Errorf("--help has %d flags", len(flags))
	}
	for _, f := range flags {
		if !strings.Contains(first.String(), `\fB\-\-`+strings.ReplaceAll(f[1], "-", `\-`)+`\fR`) {
			t.Errorf("the page lacks --%s", f[1])
		}
	}
}

// systemd stands in for it. What it returns waits until a state was told.
func systemd(t *testing.T) (told func(state string)) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	return func(state string) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 1024); ; {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", state, err)
			}
			if string(buf[:n]) == state {
				return
			}
		}
	}
}

func TestProgramServesUntilItIsStopped(t *testing.T) {
	library, err := filepath.Glob("/usr/lib*/*/libvirt.so.0")
	if more, err2 := filepath.Glob("/usr/lib*/libvirt.so.0"); err == nil {
		library, err = append(library, more...), err2
	}
	testenv.Need(t, func() error {
		if err != nil || len(library) == 0 {
			return errors.New("needs libvirt's client library (package libvirt0)")
		}
		return nil
	})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	address := testenv.FreeAddress(t)
	told := systemd(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"--libvirt.uri=test:///default", "--web.listen-address=" + address, "--web.telemetry-path=/m"}, io.Discard, &log)
	}()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(method, path string) (string, error) {
		r, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, http.NoBody)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprintf("%d %s", resp.StatusCode, body), err
	}
	told("READY=1")
	if _, err := get(http.MethodGet, "/-/healthy"); err != nil {
		t.Errorf("it was ready and took no connection: %v", err)
	}
	told("WATCHDOG=1")
	told("WATCHDOG=1")
	for _, test := range []struct{ method, path, status, text string }{
		{http.MethodGet, "/-/healthy", "200", "healthy"},
		{http.MethodGet, "/m", "200", `libvirt_domain_vcpus{domain="test",uuid="6695eb01-f6a4-8304-79aa-97f2502e193f"} 2`},
		{http.MethodGet, "/m", "200", "scalehook_exporter_build_info{"},
		{http.MethodHead, "/m", "200", ""},
		{http.MethodGet, "/", "200", "scalehook-exporter"},
		{http.MethodGet, "/metrics", "404", ""},
		{http.MethodPost, "/m", "405", ""},
	} {
		got, err := get(test.method, test.path)
		if err != nil || !strings.HasPrefix(got, test.status) || !strings.Contains(got, test.text) {
			t.Errorf("%s %s: %v, want %s with %q, got\n%s", test.method, test.path, err, test.status, test.text, got)
		}
	}
	stop()
	told("STOPPING=1")
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("stopping: %v\n%s", err, &log)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the program does not end")
	}
}
