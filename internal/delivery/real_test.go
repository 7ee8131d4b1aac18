package delivery_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	promconfig "github.com/prometheus/common/config"

	"github.com/scalehook/scalehook/internal/delivery"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
	"github.com/scalehook/scalehook/internal/testenv"
)

// serve is a receiver on loopback.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestADeliveryIsSignedAndComplete(t *testing.T) {
	receiver := newReceiver(t, nil)
	j := newJournal()
	j.told["chat"] = 0
	j.end(activity("a1", "web", time.Now()))
	run(t, j, prepare(t, hook(t, "chat", serve(t, receiver)+"/hooks/scalehook")))
	g := receiver.await(1)[0] // it was verified
	for header, want := range map[string]string{"Content-Type": "application/json", "User-Agent": "scalehook/1.2.3", "X-Scalehook-Delivery": "a1.chat"} {
		if got := g.header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if g.Version != "1" || g.ID != "a1.chat" || g.Webhook != "chat" || g.Owner != "lab" || g.Host != "hv1" || g.ExternalURL != "https://scalehook.example" ||
		g.Group != "web" || g.Activity.ID != "a1" || g.Activity.Status != "done" || g.Activity.Cause.By != "ops" || len(g.Activity.Steps) != 1 {
		t.Errorf("%s", g.body)
	}
}

func TestARealReceiverThatFailsIsToldAgain(t *testing.T) {
	receiver := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		switch n {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1: // the connection breaks off
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				err = conn.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	j := newJournal()
	j.told["chat"] = 0
	j.end(activity("a1", "web", time.Now()), activity("a2", "web", time.Now()))
	r := run(t, j, prepare(t, hook(t, "chat", serve(t, receiver))))
	receiver.await(4)
	if diff := cmp.Diff([]string{"a1", "a1", "a1", "a2"}, receiver.activities()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.stop()
	r.is(t, "delivered", 2)
	if n := r.value(t, "scalehook_delivery_tries_total", "code", "none"); n != 1 {
		t.Errorf("%v tries without an answer, want 1", n)
	}
}

func TestARedirectLeadsNowhere(t *testing.T) {
	var elsewhere atomic.Int32
	other := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	for _, code := range []int{301, 302, 303, 307, 308} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			receiver := newReceiver(t, func(_ int, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, code) })
			j := newJournal()
			j.told["chat"] = 0
			j.end(activity("a1", "web", time.Now()))
			r := run(t, j, prepare(t, hook(t, "chat", serve(t, receiver), func(h *delivery.Hook) { h.HTTPClient.FollowRedirects = true })))
			receiver.await(1)
			r.stop()
			r.is(t, "rejected", 1)
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("it was followed %d times", n)
	}
}

func TestAReceiverThatHangsIsGivenUpAndNamedWithoutItsURL(t *testing.T) {
	release := make(chan struct{})
	receiver := newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	defer close(release)
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()
	j := newJournal()
	j.told["hangs"], j.told["refuses"] = 0, 0
	j.end(activity("a1", "web", time.Now()))
	short := func(h *delivery.Hook) { h.Timeout, h.MaxTries = 100*time.Millisecond, 1 }
	r := run(t, j, prepare(t, hook(t, "hangs", serve(t, receiver)+"/hunter2", short), hook(t, "refuses", nobody.URL+"/hunter2", short)))
	testenv.Eventually(t, time.Minute, "both to be given up", func() error {
		if n := r.value(t, "scalehook_deliveries_total", "result", "given_up"); n < 2 {
			return fmt.Errorf("%v are, the log:\n%s", n, r.log)
		}
		return nil
	})
	r.stop()
	if said := r.log.String(); !strings.Contains(said, "no answer within 100ms") || !strings.Contains(said, "connection refused") || strings.Contains(said, "hunter2") {
		t.Errorf("the log:\n%s", said)
	}
}

func TestACertificateIsCheckedAndAnAuthorityCanBeStated(t *testing.T) {
	receiver := newReceiver(t, nil)
	server := httptest.NewUnstartedServer(receiver)
	server.Config.ErrorLog = nil
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	j := newJournal()
	j.told["trusts"], j.told["doubts"] = 0, 0
	j.end(activity("a1", "web", time.Now()))
	once := func(h *delivery.Hook) { h.MaxTries = 1 }
	r := run(t, j, prepare(t, hook(t, "doubts", server.URL, once), hook(t, "trusts", server.URL, once, func(h *delivery.Hook) {
		h.HTTPClient.TLSConfig = promconfig.TLSConfig{CAFile: ca}
	})))
	if g := receiver.await(1)[0]; g.Webhook != "trusts" {
		t.Errorf("told as %s", g.Webhook)
	}
	testenv.Eventually(t, time.Minute, "a certificate that nobody knows to be refused", func() error {
		if r.value(t, "scalehook_deliveries_total", "webhook", "doubts") < 1 {
			return errors.New("no delivery has ended")
		}
		return nil
	})
	if said := r.log.String(); !strings.Contains(said, "certificate") {
		t.Errorf("the log:\n%s", said)
	}
}

func TestTheSecretIsReadForEachTry(t *testing.T) {
	receiver := newReceiver(t, nil)
	h := hook(t, "chat", serve(t, receiver))
	p := prepare(t, h)
	hidden := h.SecretFile + ".hidden"
	if err := os.Rename(h.SecretFile, hidden); err != nil {
		t.Fatal(err)
	}
	j := newJournal()
	j.told["chat"] = 0
	j.end(activity("a1", "web", time.Now()))
	r := run(t, j, p)
	testenv.Eventually(t, time.Minute, "the missing file to be logged", func() error {
		if !strings.Contains(r.log.String(), "no such file") {
			return fmt.Errorf("the log:\n%s", r.log)
		}
		return nil
	})
	if err := os.Rename(hidden, h.SecretFile); err != nil {
		t.Fatal(err)
	}
	receiver.await(1) // signed with what is there now
}

func TestSecretsThatAreNoneAreRefused(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ text, want string }{
		"short":     {"0123456789", "16 characters"},
		"empty":     {"", "16 characters"},
		"long":      {strings.Repeat("x", 5000), "larger than 4096 bytes"},
		"two lines": {strings.Repeat("x", 20) + "\n" + strings.Repeat("y", 20) + "\n", "one line of printable ASCII"},
		"binary":    {strings.Repeat("\x01", 20), "printable ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			h := hook(t, "chat", url)
			h.SecretFile = file
			_, err := delivery.Prepare([]delivery.Hook{h})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("error %v, want one that names the file and %q", err, c.want)
			}
		})
	}
	h := hook(t, "chat", url)
	h.SecretFile, h.HTTPClient.TLSConfig.CAFile = filepath.Join(dir, "none"), filepath.Join(dir, "no.pem")
	if err := delivery.Check(h); err == nil || !strings.Contains(err.Error(), "none: no such file") || !strings.Contains(err.Error(), "no.pem") {
		t.Errorf("error %v, want both files named", err)
	}
}

// The store says what is missing after a restart, and nothing is told twice that
// was noted.
func TestARestartDeliversExactlyWhatWasMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scalehook.db")
	open := func() *store.Store {
		t.Helper()
		s, err := store.Open(t.Context(), path, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	end := func(s *store.Store, ids ...string) {
		t.Helper()
		for _, id := range ids {
			if err := s.Change(context.Background(), "web", func(st *scaling.State) error {
				st.Open = append(st.Open, activity(id, "web", time.Now()))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	broken := atomic.Bool{}
	receiver := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	p := func() delivery.Prepared { return prepare(t, hook(t, "chat", serve(t, receiver))) }

	s := open()
	end(s, "before it was configured")
	r := run(t, s, p())
	testenv.Eventually(t, time.Minute, "the position of the start to be noted", func() error {
		told, err := s.Told(t.Context())
		if err == nil && told["chat"] != 1 {
			err = fmt.Errorf("it is %v", told)
		}
		return err
	})
	end(s, "1", "2")
	receiver.await(2)
	broken.Store(true)
	end(s, "3", "4")
	receiver.await(3)
	r.stop()
	end(s, "5") // while nobody delivers
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	broken.Store(false)
	s = open()
	r = run(t, s, p())
	end(s, "6")
	list := receiver.await(7)
	r.stop()
	if diff := cmp.Diff([]string{"1", "2", "3", "3", "4", "5", "6"}, receiver.activities()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if list[2].ID != list[3].ID || list[2].body != list[3].body {
		t.Errorf("what was told again is another delivery:\n%s\n%s", list[2].body, list[3].body)
	}

	// And after one more, nothing is.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	r = run(t, s, p())
	end(s, "7")
	receiver.await(8)
	r.stop()
	if got := receiver.activities(); len(got) != 8 || got[7] != "7" {
		t.Errorf("told of %v", got)
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	release := make(chan struct{})
	receiver := newReceiver(t, func(int, http.ResponseWriter, *http.Request) { <-release })
	j := newJournal()
	j.told["chat"] = 0
	j.end(activity("a1", "web", time.Now()))
	r := run(t, j, prepare(t, hook(t, "chat", serve(t, receiver))))
	receiver.await(1)
	defer close(release)
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := []string{
		"scalehook_deliveries_total", "scalehook_deliveries_waiting", "scalehook_delivery_oldest_timestamp_seconds", "scalehook_delivery_tries_total",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	problems, err := promlint.NewWithMetricFamilies(append([]*dto.MetricFamily{}, families...)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

// What a token's server is asked, and what it answers, may hold credentials.
func TestCredentialsForATokenAreInNoLog(t *testing.T) {
	const hunter = "hunter2"
	answers := func(code int, body string) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}))
	}
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()
	moved := serve(t, http.RedirectHandler("http://127.0.0.1:1/"+hunter+"?key="+hunter, http.StatusTemporaryRedirect))
	var hooks []delivery.Hook
	j := newJournal()
	want := map[string]string{}
	for name, c := range map[string]struct{ idp, want string }{
		"refused":   {answers(http.StatusUnauthorized, `no client with the secret hunter2`), "no token: 401 Unauthorized"},
		"coded":     {answers(http.StatusBadRequest, `{"error": "invalid_client", "error_description": "secret hunter2", "error_uri": "http://x/hunter2"}`), `no token: \"invalid_client\"`},
		"odd-code":  {answers(http.StatusBadRequest, `{"error": "hunter2 is wrong"}`), "no token"},
		"no-json":   {answers(http.StatusOK, `hunter2`), "no token"},
		"no-token":  {answers(http.StatusOK, `{"hunter2": "hunter2"}`), "no token"},
		"unreached": {nobody.URL, "no token: dial tcp"},
		"moved":     {moved, "no token"},
	} {
		j.told[name], want[name] = 0, c.want
		hooks = append(hooks, hook(t, name, "http://127.0.0.1:1/"+hunter, func(h *delivery.Hook) {
			h.MaxTries = 1
			h.HTTPClient.OAuth2 = &promconfig.OAuth2{
				ClientID: "scalehook", ClientSecret: promconfig.Secret(hunter),
				TokenURL: strings.Replace(c.idp, "http://", "http://ops:"+hunter+"@", 1) + "/" + hunter + "/token?key=" + hunter,
			}
		}))
	}
	j.end(activity("a1", "web", time.Now()))
	r := run(t, j, prepare(t, hooks...))
	testenv.Eventually(t, time.Minute, "all to be given up", func() error {
		if n := r.value(t, "scalehook_deliveries_total", "result", "given_up"); n < float64(len(hooks)) {
			return fmt.Errorf("%v are, the log:\n%s", n, r.log)
		}
		return nil
	})
	r.stop()
	said := r.log.String()
	if strings.Contains(said, hunter) {
		t.Errorf("the log has a credential:\n%s", said)
	}
	for name, text := range want {
		found := false
		for line := range strings.Lines(said) {
			found = found || strings.Contains(line, "webhook="+name) && strings.Contains(line, "http_client.oauth2: ") && strings.Contains(line, text)
		}
		if !found {
			t.Errorf("%s: want %q in the log:\n%s", name, text, said)
		}
	}
}
