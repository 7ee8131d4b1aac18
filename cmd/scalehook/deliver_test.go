package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

// receiver is a webhook's other end.
type receiver struct {
	mu   sync.Mutex
	list []api.Delivery
	bad  []string
}

func (r *receiver) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	mac := hmac.New(sha256.New, []byte("0123456789abcdef"))
	fmt.Fprintf(mac, "%s.%s", req.Header.Get("X-Scalehook-Timestamp"), body)
	var d api.Delivery
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); err != nil || req.Header.Get("X-Scalehook-Signature") != want || json.Unmarshal(body, &d) != nil {
		r.bad = append(r.bad, fmt.Sprintf("%v %v: %s", err, req.Header, body))
	}
	r.list = append(r.list, d)
}

// told says what the receiver got, as "webhook group kind status".
func (r *receiver) told(t *testing.T) (list []string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad != nil {
		t.Fatalf("bad deliveries: %q", r.bad)
	}
	for _, d := range r.list {
		list = append(list, strings.Join([]string{d.Webhook, d.Owner, d.Group, d.Activity.Kind, d.Activity.Status}, " "))
	}
	return list
}

// The whole way: activities of simulated VMs end, a real receiver is told, through
// a reload and a restart.
func TestServeTellsWebhooksOfWhatEnded(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r := &receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	flags := testFlags(t)
	address := testenv.FreeAddress(t)
	flags.listen, flags.lifecycle, flags.insecure, flags.externalURL = []string{address}, true, true, "https://scalehook.example"
	config := func(minimum int, webhooks string) {
		t.Helper()
		text := fmt.Sprintf(`
owner: test
webhooks:%s
providers:
  sim:
    simulated: {boot_time: 50ms}
balancers:
  pool:
    simulated: {provider: sim}
groups:
  web:
    mode: scale_out_only
    min: %d
    max: 5
`, strings.ReplaceAll(webhooks, "URL", server.URL), minimum)
		for name, text := range map[string]string{"scalehook.yml": text, "secret": "0123456789abcdef\n"} {
			if err := os.WriteFile(filepath.Join(filepath.Dir(flags.configFile), name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	start := func() (stop func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- serve(ctx, flags, io.Discard) }()
		testenv.Eventually(t, time.Minute, "the server is ready", testenv.OK("http://"+address+"/-/ready"))
		return sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
	await := func(want ...string) {
		t.Helper()
		testenv.Eventually(t, time.Minute, "the receiver is told", func() error {
			if got := r.told(t); !slices.Equal(got, want) {
				return fmt.Errorf("it was told %q, want %q", got, want)
			}
			return nil
		})
	}

	const chat = `
  - {name: chat, url: "URL/x", secret_file: secret, http_client: {proxy_url: ""}}`
	config(1, chat)
	stop := start()
	defer stop()
	const first = "chat test web fill done"
	await(first)

	// A reload adds a webhook, and a group that grows.
	config(2, chat+`
  - {name: failures, url: "URL/y", secret_file: secret, statuses: [failed]}
  - {name: fills, url: "URL/z", secret_file: secret, kinds: [fill]}`)
	resp, err := http.Post("http://"+address+"/-/reload", "application/json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("reload: %s", resp.Status)
	}
	testenv.Eventually(t, time.Minute, "both are told", func() error {
		got := r.told(t)
		slices.Sort(got)
		if want := []string{first, first, "fills test web fill done"}; !slices.Equal(got, want) {
			return fmt.Errorf("they were told %q, want %q", got, want)
		}
		return nil
	})
	page, err := get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`scalehook_deliveries_total{result="delivered",webhook="chat"} 2`, `scalehook_deliveries_total{result="delivered",webhook="failures"} 0`,
		`scalehook_delivery_tries_total{code="2xx",webhook="fills"} 1`,
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}

	// A restart repeats nothing; what ends after it is told.
	stop()
	told := len(r.told(t))
	config(3, chat)
	stop = start()
	defer stop()
	testenv.Eventually(t, time.Minute, "the receiver is told of the fill after the restart", func() error {
		if got := r.told(t); len(got) <= told {
			return fmt.Errorf("it was told %q", got)
		}
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	for _, d := range r.list {
		if seen[d.ID] {
			t.Errorf("%s was told twice", d.ID)
		}
		seen[d.ID] = true
		if d.ExternalURL != flags.externalURL || d.Host == "" || d.Version != "1" {
			t.Errorf("delivery %+v", d)
		}
	}
}
