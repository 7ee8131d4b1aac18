package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/webhook"
)

// serve runs the server on a free port until the test ends and returns its address.
func serve(t *testing.T, s *webhook.Server, webConfig string) string {
	t.Helper()
	listeners, err := webhook.Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listeners, webConfig) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return listeners[0].Addr().String()
}

// httpClient keeps no connection.
func httpClient(config *tls.Config) *http.Client {
	return &http.Client{
		Timeout:   20 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config},
	}
}

func healthy(c *http.Client, url string) error {
	resp, err := c.Get(url + "/-/healthy")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

func TestSlowAndSilentClientsCannotStarveAGoodOne(t *testing.T) {
	opts := options(t, newEngine())
	opts.MaxConnections = 8
	s := newServer(t, opts)
	address := serve(t, s, "")
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for i := range 40 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		if i%2 == 0 { // half of them begin a request, and a body, that never ends
			fmt.Fprintf(c, "POST /api/v1/alertmanager HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
				"Authorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{", alertsToken)
		}
	}
	client := httpClient(nil)
	for range 5 {
		if err := healthy(client, "http://"+address); err != nil {
			t.Fatalf("a good client is starved: %v", err)
		}
	}
	if got := counter(t, opts.Registry, "scalehook_webhook_connections_dropped_total", nil); got < 32 {
		t.Errorf("%v connections were dropped, want at least 32", got)
	}
}

func TestARequestThatTheEngineWorksOnIsNotDropped(t *testing.T) {
	e := newEngine()
	release := make(chan struct{})
	e.wait, e.reached = release, make(chan struct{}, 1)
	opts := options(t, e)
	opts.MaxConnections = 2
	s := newServer(t, opts)
	address := serve(t, s, "")
	answered := make(chan error, 1)
	go func() {
		req, _ := http.NewRequest(http.MethodPost, "http://"+address+"/api/v1/alertmanager", strings.NewReader(payload("4", firing("web", "high"))))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+alertsToken)
		resp, err := httpClient(nil).Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %s", resp.Status)
			}
		}
		answered <- err
	}()
	// Before, it is as droppable as any other.
	select {
	case <-e.reached:
	case err := <-answered:
		t.Fatalf("ended before the engine saw it: %v", err)
	}
	client := httpClient(nil)
	for range 20 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := healthy(client, "http://"+address); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the request under way: %v", err)
	}
}

func TestALargeBodyIsAnsweredOverTheWire(t *testing.T) {
	s := newServer(t, options(t, newEngine()))
	address := serve(t, s, "")
	req, _ := http.NewRequest(http.MethodPost, "http://"+address+"/api/v1/alertmanager", bytes.NewReader(make([]byte, 10<<20)))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+alertsToken)
	resp, err := httpClient(nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(body, []byte("1048576")) {
		t.Errorf("answered %s: %s", resp.Status, body)
	}
}

func TestHugeHeadersAndBrokenRequestsAreRefused(t *testing.T) {
	s := newServer(t, options(t, newEngine()))
	address := serve(t, s, "")
	for name, tt := range map[string]struct {
		raw  string
		code int
	}{
		"a header of 100 kB":     {"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 100_000) + "\r\n\r\n", 431},
		"no HTTP at all":         {"hello\r\n\r\n", 400},
		"two lengths":            {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
		"a check without a host": {"GET /-/healthy HTTP/1.0\r\n\r\n", 200},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, tt.raw)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.code {
				t.Errorf("answered %s, want %d", resp.Status, tt.code)
			}
		})
	}
}

// keyPair makes a certificate for 127.0.0.1, signed by parent or by itself.
func keyPair(t *testing.T, name string, parent *tls.Certificate) (cert tls.Certificate, certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signer, signKey := tmpl, any(key)
	if parent != nil {
		signer, signKey = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, signer, &key.PublicKey, signKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	cert, err = tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return cert, certPEM, keyPEM
}

func writeFile(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ca, caPEM, _ := keyPair(t, "ca", nil)
	_, serverPEM, serverKey := keyPair(t, "server", &ca)
	clientCert, _, _ := keyPair(t, "client", &ca)
	stranger, _, _ := keyPair(t, "stranger", nil)
	writeFile(t, dir, "ca.pem", caPEM)
	writeFile(t, dir, "server.pem", serverPEM)
	writeFile(t, dir, "server.key", serverKey)
	writeFile(t, dir, "web.yml", []byte("tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"+
		"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"))
	opts := options(t, newEngine())
	opts.MaxConnections = 4
	s := newServer(t, opts)
	address := serve(t, s, filepath.Join(dir, "web.yml"))
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	good := httpClient(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{clientCert}})

	for range 12 { // half-open ones that never begin their handshake
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := healthy(good, "https://"+address); err != nil {
		t.Errorf("with the right certificate: %v", err)
	}
	for name, config := range map[string]*tls.Config{
		"no certificate":     {RootCAs: roots},
		"another's":          {RootCAs: roots, Certificates: []tls.Certificate{stranger}},
		"plain text, no TLS": nil,
	} {
		url := "https://" + address
		if config == nil {
			url = "http://" + address
		}
		if err := healthy(httpClient(config), url); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
}

func TestBasicAuthenticationAndTokensExcludeEachOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	// The password is "x", hashed at the lowest cost.
	users := "basic_auth_users:\n  ops: $2a$04$Q5Ya3qJ4cDmKkAKg0BLXcuvbG1DUIL7.oxlFzqMWqyYqcO8bGfzYy\n"
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := webhook.CheckWebConfig(file, false); err != nil {
		t.Errorf("without tokens: %v", err)
	}
	s := newServer(t, options(t, newEngine()))
	listeners, err := webhook.Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), listeners, file); err == nil || !strings.Contains(err.Error(), "exclude each other") {
		t.Errorf("error %v", err)
	}
	if _, err := net.Dial("tcp", listeners[0].Addr().String()); err == nil {
		t.Error("it listens all the same")
	}
	if err := webhook.CheckWebConfig(filepath.Join(t.TempDir(), "none"), false); err == nil {
		t.Error("a file that is not there is fine")
	}
	if err := os.WriteFile(file, []byte("basic_auth_user: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := webhook.CheckWebConfig(file, false); err == nil || !strings.Contains(err.Error(), "basic_auth_user") {
		t.Errorf("a misspelt key: %v", err)
	}
}

func TestListenSaysWhatIsTaken(t *testing.T) {
	l, err := webhook.Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer l[0].Close()
	free := testenv.FreeAddress(t)
	if _, err := webhook.Listen(t.Context(), []string{free, l[0].Addr().String()}); err == nil || !strings.Contains(err.Error(), l[0].Addr().String()) {
		t.Errorf("error %v", err)
	}
	if c, err := net.Dial("tcp", free); err == nil {
		c.Close()
		t.Error("the first address stays open")
	}
}

func TestStoppingLetsARequestFinish(t *testing.T) {
	e := newEngine()
	release := make(chan struct{})
	e.wait = release
	s := newServer(t, options(t, e))
	listeners, err := webhook.Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listeners, "") }()
	address := listeners[0].Addr().String()
	testenv.Eventually(t, 10*time.Second, "the server", func() error { return healthy(httpClient(nil), "http://"+address) })

	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := payload("4", firing("web", "high"))
	fmt.Fprintf(c, "POST /api/v1/alertmanager HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Authorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", alertsToken, len(body))
	answers := bufio.NewReader(c)
	// The server asks for the body once the handler reads it: the request is under way.
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("answered %q, %v", line, err)
	}
	cancel()
	_, _ = io.WriteString(c, body)
	close(release)
	_, _ = answers.ReadString('\n')
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("answered %s", resp.Status)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// exhausted takes no connection the first times.
type exhausted struct {
	net.Listener

	left atomic.Int32
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return e.Listener.Accept()
}

func TestThatNoConnectionCanBeTakenIsAWarning(t *testing.T) {
	var log safeBuffer
	opts := options(t, newEngine())
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := newServer(t, opts)
	listeners, err := webhook.Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	l := &exhausted{Listener: listeners[0]}
	l.left.Store(3)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, []net.Listener{l}, "") }()
	if err := healthy(httpClient(nil), "http://"+l.Addr().String()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, "too many open files") != 1 || !strings.Contains(got, `level=WARN msg="connections cannot be taken; trying again"`) {
		t.Errorf("the log:\n%s", got)
	}
}

// safeBuffer is one that several goroutines write to.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
