package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/testenv"
)

const minimalConfig = `
owner: test
providers:
  sim:
    simulated: {}
balancers:
  pool:
    simulated: {provider: sim}
groups:
  web:
    max: 2
`

func testFlags(t *testing.T) *serveFlags {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "scalehook.yml")
	if err := os.WriteFile(file, []byte(minimalConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	return &serveFlags{
		configFile: file, storagePath: filepath.Join(dir, "data"), listen: []string{"127.0.0.1:0"}, maxConnections: 8,
		logLevel: promslog.NewLevel(), logFormat: promslog.NewFormat(),
	}
}

func TestServeTellsSystemdAndLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt((200*time.Millisecond).Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	flags := testFlags(t)
	flags.listen, flags.lifecycle, flags.insecure = []string{testenv.FreeAddress(t)}, true, true
	go func() { ended <- serve(ctx, flags, io.Discard) }()
	await := func(want string) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 1024); ; {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	await("READY=1")
	await("WATCHDOG=1")
	await("WATCHDOG=1")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+flags.listen[0]+"/-/reload", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("reload: %s", answer.Status)
	}
	await("RELOADING=1\nMONOTONIC_USEC=")
	await("READY=1")
	cancel()
	await("STOPPING=1")
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
}

// A source that does not answer makes nobody ready: whether a provider was asked is a
// question of its own.
func TestServeIsReadyOnceEveryProviderWasAsked(t *testing.T) {
	for name, c := range map[string]struct {
		provider string
		want     int
	}{
		"a provider that answers, beside a Prometheus that is gone":              {"{}", http.StatusOK},
		"a provider that has not answered yet, beside a Prometheus that is gone": {"{call_time: 1h}", http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := testFlags(t)
			f.listen = []string{testenv.FreeAddress(t)}
			text := strings.Replace(minimalConfig, "simulated: {}", "simulated: "+c.provider, 1) + "prometheus: {url: 'http://" + testenv.FreeAddress(t) + "'}\n"
			if err := os.WriteFile(f.configFile, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- serve(ctx, f, io.Discard) }()
			defer func() { cancel(); <-ended }()
			get := func(path string) (code int, body string) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.listen[0]+path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return 0, err.Error()
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, string(text)
			}
			testenv.Eventually(t, 30*time.Second, "Prometheus is known to be gone, and the provider as it is", func() error {
				if _, body := get("/api/v1/groups"); !strings.Contains(body, "meter: ") || (c.want == http.StatusOK) != strings.Contains(body, "provider_seen") {
					return errors.New(body)
				}
				return nil
			})
			if code, body := get("/-/ready"); code != c.want {
				t.Errorf("answered %d: %s", code, body)
			}
		})
	}
}

func TestServeThatCannotStartLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for name, change := range map[string]func(*serveFlags){
		"no configuration":             func(f *serveFlags) { f.configFile += ".none" },
		"a store in a file":            func(f *serveFlags) { f.storagePath = f.configFile },
		"an address that is none":      func(f *serveFlags) { f.listen = []string{"127.0.0.1:99999"} },
		"a web file that is not there": func(f *serveFlags) { f.webConfigFile = f.configFile + ".none" },
		"an URL that is none":          func(f *serveFlags) { f.externalURL = "scalehook" },
	} {
		t.Run(name, func(t *testing.T) {
			f := testFlags(t)
			change(f)
			if err := serve(t.Context(), f, io.Discard); err == nil {
				t.Error("it started")
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	if got := exitCode(errors.New("any")); got != exitFailed {
		t.Errorf("any error: %d", got)
	}
	if got := exitCode(usageError{errors.New("any")}); got != exitUsage {
		t.Errorf("usage: %d", got)
	}
}
