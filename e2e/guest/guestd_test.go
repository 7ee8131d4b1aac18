package guest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/e2e/guest"
)

// guestd runs the guest's web server on loopback.
type guestd struct {
	url  string
	cmd  *exec.Cmd
	done chan error
}

func buildGuestd(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "guestd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./guestd").CombinedOutput(); err != nil {
		t.Fatalf("build guestd: %v: %s", err, out)
	}
	return bin
}

func startGuestd(t *testing.T, bin, host, collector string, args ...string) *guestd {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	file := filepath.Join(t.TempDir(), "collector")
	if err := os.WriteFile(file, []byte(collector+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-listen", addr, "-host", host, "-instance-id", "i-" + host, "-collector-file", file, "-report-every", "20ms"}, args...)
	cmd := exec.Command(bin, args...)
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &guestd{url: "http://" + addr, cmd: cmd, done: make(chan error, 1)}
	go func() { g.done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, code := g.get(t.Context(), "/health", ""); code == http.StatusOK {
			return g
		}
		if time.Now().After(deadline) {
			t.Fatal("guestd does not answer")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (g *guestd) get(ctx context.Context, path, id string) (string, int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+path, http.NoBody)
	if err != nil {
		return err.Error(), 0
	}
	req.Header.Set("X-Request-Id", id)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error(), 0
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.ContentLength != int64(len(raw)) {
		return fmt.Sprintf("length %d, body %q, error %v", resp.ContentLength, raw, err), 0
	}
	return string(raw), resp.StatusCode
}

func TestWhatAGuestAnsweredIsKnownAfterItIsGone(t *testing.T) {
	collector := guest.NewCollector()
	srv := httptest.NewServer(collector)
	defer srv.Close()
	g := startGuestd(t, buildGuestd(t), "web-1", srv.URL)

	for _, tc := range []struct{ path, id, want string }{
		{"/work?n=5", "r-1", "host=web-1 id=r-1 kind=work bytes=0\n"},
		{"/echo", "r-2", "host=web-1 id=r-2 kind=echo bytes=0\n"},
		{"/sleep?s=0.01", "r-3", "host=web-1 id=r-3 kind=sleep bytes=0\n"},
	} {
		if got, code := g.get(t.Context(), tc.path, tc.id); got != tc.want || code != http.StatusOK {
			t.Errorf("GET %s = %d %q, want %q", tc.path, code, got, tc.want)
		}
	}
	if got, _ := g.get(t.Context(), "/ids?from=1", ""); got != "1 r-2 echo\n2 r-3 sleep\n" {
		t.Errorf("ids from 1 = %q", got)
	}
	for _, bad := range []string{"/work?n=x", "/sleep?s=61", "/sleep?s=-1"} {
		if _, code := g.get(t.Context(), bad, "r-bad"); code != http.StatusBadRequest {
			t.Errorf("GET %s = %d, want 400", bad, code)
		}
	}

	// A request in flight when the guest is stopped is answered and reported.
	var wg sync.WaitGroup
	var last string
	wg.Go(func() { last, _ = g.get(t.Context(), "/sleep?s=1", "r-4") })
	for c := ""; !strings.Contains(c, `"sleep":2`); c, _ = g.get(t.Context(), "/count", "") {
		time.Sleep(5 * time.Millisecond)
	}
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := <-g.done; err != nil {
		t.Errorf("guestd ended with %v", err)
	}
	if last != "host=web-1 id=r-4 kind=sleep bytes=0\n" {
		t.Errorf("answer during the stop: %q", last)
	}
	books := collector.Books()
	want := []guest.Book{{
		Counts: guest.Counts{Host: "web-1", InstanceID: "i-web-1", Noted: 4},
		Records: []guest.Record{
			{ID: "r-1", Kind: "work"},
			{ID: "r-2", Kind: "echo"},
			{ID: "r-3", Kind: "sleep"},
			{ID: "r-4", Kind: "sleep"},
		},
		Final: true,
	}}
	ignore := cmpopts.IgnoreFields(guest.Counts{}, "Boot", "Received", "Answered")
	if diff := cmp.Diff(want, books, ignore, cmpopts.IgnoreFields(guest.Book{}, "Last")); diff != "" {
		t.Errorf("books (-want +got):\n%s", diff)
	}
	if len(books) == 1 && (books[0].Received["sleep"] != 2 || books[0].Answered["sleep"] != 2) {
		t.Errorf("counts %+v, want 2 sleeps received and answered", books[0].Counts)
	}
}

func TestACollectorThatComesLateGetsEverything(t *testing.T) {
	collector := guest.NewCollector()
	var came atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !came.Load() {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		collector.ServeHTTP(w, r)
	}))
	defer srv.Close()
	g := startGuestd(t, buildGuestd(t), "web-1", srv.URL)
	for i := range 20 {
		g.get(t.Context(), "/echo", fmt.Sprintf("r-%d", i))
	}
	came.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := collector.AwaitNoted(ctx, 20); err != nil {
		t.Error(err)
	}
	short, cancelShort := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancelShort()
	if err := collector.AwaitFinal(short, "web-1"); err == nil {
		t.Error("a running guest has a final report")
	}
}

func TestCollectorTakesEachRecordOnce(t *testing.T) {
	c := guest.NewCollector()
	for _, step := range []struct {
		name, body string
		code       int
		next       string
	}{
		{"the first report", `{"boot":"b","host":"h","from":0,"records":[{"id":"1"},{"id":"2"}]}`, 200, `{"next":2}`},
		{"the same again", `{"boot":"b","host":"h","from":0,"records":[{"id":"1"},{"id":"2"}]}`, 200, `{"next":2}`},
		{"an overlapping one", `{"boot":"b","host":"h","from":1,"records":[{"id":"2"},{"id":"3"}]}`, 200, `{"next":3}`},
		{"one with a gap is asked for again", `{"boot":"b","host":"h","from":5,"records":[{"id":"6"}],"final":true}`, 200, `{"next":3}`},
		{"an old one that arrives late", `{"boot":"b","host":"h","from":0,"records":[{"id":"1"}]}`, 200, `{"next":3}`},
		{"another boot of the same host", `{"boot":"c","host":"h","from":0,"records":[{"id":"9"}],"final":true}`, 200, `{"next":1}`},
		{"garbage", `{`, 400, "not a report"},
		{"a report without a boot", `{}`, 400, "not a report"},
		{"a negative number", `{"boot":"b","from":-1}`, 400, "not a report"},
	} {
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/report", strings.NewReader(step.body)))
		if got := strings.TrimSpace(w.Body.String()); w.Code != step.code || got != step.next {
			t.Errorf("%s: %d %q, want %d %q", step.name, w.Code, got, step.code, step.next)
		}
	}
	var got []string
	for _, b := range c.Books() {
		for _, r := range b.Records {
			got = append(got, fmt.Sprintf("%s/%s final=%t", b.Boot, r.ID, b.Final))
		}
	}
	want := []string{"b/1 final=false", "b/2 final=false", "b/3 final=false", "c/9 final=true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}
