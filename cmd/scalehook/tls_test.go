package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/audit"
	"github.com/scalehook/scalehook/internal/testenv"
)

// authority signs certificates and keeps them in files of a folder.
type authority struct {
	dir  string
	ip   net.IP // of those it vouches for
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string, ip net.IP) *authority {
	t.Helper()
	a := &authority{dir: dir, ip: ip}
	tmpl := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(t, name, tmpl, time.Now().Add(time.Hour))
	return a
}

func (a *authority) sign(t *testing.T, name string, tmpl *x509.Certificate, ends time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber, tmpl.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-2*time.Hour), ends
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		// By rename, as whoever replaces a certificate of a running server does it.
		file := filepath.Join(a.dir, name+suffix)
		if err := errors.Join(os.WriteFile(file+".new", pem.EncodeToMemory(block), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// issue makes NAME.pem and NAME.key, with NAME.example as another name.
func (a *authority) issue(t *testing.T, name string, ends time.Time) *x509.Certificate {
	t.Helper()
	cert, _ := a.sign(t, name, &x509.Certificate{
		IPAddresses: []net.IP{a.ip}, DNSNames: []string{name + ".example"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ends)
	return cert
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// secured is a running server with mutual TLS and what is needed to talk to it.
type secured struct {
	dir, url string
	ca       *authority
	log      *lines
	audit    string
}

const (
	firstToken  = "operator-token-0123456789"
	secondToken = "operator-token-9876543210"
)

func (s *secured) file(name string) string { return filepath.Join(s.dir, name) }

func (s *secured) write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(s.file(name+".new"), []byte(text), 0o600), os.Rename(s.file(name+".new"), s.file(name))); err != nil {
		t.Fatal(err)
	}
}

// as is the TLS of a client that shows a certificate, or none.
func (s *secured) as(t *testing.T, name string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.cert)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if name != "" {
		cert, err := tls.LoadX509KeyPair(s.file(name+".pem"), s.file(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config
}

// run runs the command line and returns its output, its errors and its exit code.
func (s *secured) run(t *testing.T, args ...string) (out, wrong string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = execute(t.Context(), args, func(string) string { return "" }, &stdout, &stderr)
	return stdout.String(), stderr.String(), code
}

// with are the flags of a client that has a certificate.
func (s *secured) with(name string) []string {
	return []string{"--url", s.url, "--tls.ca-file", s.file("ca.pem"), "--tls.cert-file", s.file(name + ".pem"), "--tls.key-file", s.file(name + ".key")}
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	flags := testFlags(t)
	s := &secured{dir: filepath.Dir(flags.configFile), log: &lines{}}
	address := testenv.FreeAddress(t)
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	s.ca = newAuthority(t, s.dir, "ca", net.ParseIP(host))
	for _, name := range []string{"server", "alertmanager", "prometheus", "ops", "intruder"} {
		s.ca.issue(t, name, time.Now().Add(time.Hour))
	}
	s.ca.issue(t, "ended", time.Now().Add(-time.Minute))
	newAuthority(t, s.dir, "other", s.ca.ip).issue(t, "stranger", time.Now().Add(time.Hour))
	s.write(t, "web.yml", `
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [alertmanager.example, prometheus.example, ops.example, ended.example]
`)
	s.write(t, "ops.token", firstToken+"\n")
	s.write(t, "scalehook.yml", minimalConfig+`
tokens:
  - {name: ops, role: operator, file: ops.token}
`)
	s.url, s.audit = "https://"+address, s.file("audit.log")
	flags.listen, flags.webConfigFile, flags.auditFile = []string{address}, s.file("web.yml"), s.audit
	ended := make(chan error, 1)
	go func() { ended <- serve(t.Context(), flags, s.log) }()
	t.Cleanup(func() { // after t.Context() has ended
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log)
		}
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.as(t, "ops"), DisableKeepAlives: true}, Timeout: 5 * time.Second}
	testenv.Eventually(t, time.Minute, "the server", func() error {
		resp, err := client.Get(s.url + "/-/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	return s
}

func TestOverMutualTLSARealAlertmanagerPostsAndARealPrometheusScrapes(t *testing.T) {
	t.Parallel()
	testenv.Need(t, testenv.Program("prometheus-alertmanager"), testenv.Program("prometheus"))
	s := newSecured(t)
	am, prom := testenv.FreeAddress(t), testenv.FreeAddress(t)
	s.write(t, "alertmanager.yml", fmt.Sprintf(`
route: {receiver: scalehook, group_by: [scaling_group], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: scalehook
    webhook_configs:
      - url: %s/api/v1/alertmanager
        http_config:
          follow_redirects: false
          tls_config: {ca_file: ca.pem, cert_file: alertmanager.pem, key_file: alertmanager.key}
`, s.url))
	s.write(t, "prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: scalehook
    scheme: https
    tls_config: {ca_file: ca.pem, cert_file: prometheus.pem, key_file: prometheus.key}
    static_configs: [{targets: [%q]}]
`, strings.TrimPrefix(s.url, "https://")))
	testenv.Start(t, exec.Command(testenv.Path(t, "prometheus-alertmanager"), "--config.file="+s.file("alertmanager.yml"),
		"--storage.path="+s.file("am"), "--web.listen-address="+am, "--cluster.listen-address="), testenv.OK("http://"+am+"/-/ready"))
	testenv.Start(t, exec.Command(testenv.Path(t, "prometheus"), "--config.file="+s.file("prometheus.yml"),
		"--storage.tsdb.path="+s.file("tsdb"), "--web.listen-address="+prom, "--log.level=warn"), testenv.OK("http://"+prom+"/-/ready"))
	body := `[{"labels":{"alertname":"ScalehookCPU","scaling_group":"web","scalehook_signal":"high"}}]`
	resp, err := http.Post("http://"+am+"/api/v2/alerts", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	testenv.Eventually(t, time.Minute, "the condition", func() error {
		out, wrong, code := s.run(t, append(s.with("ops"), "groups", "-o", "json")...)
		var groups []api.Group
		if code != exitOK || json.Unmarshal([]byte(out), &groups) != nil {
			return fmt.Errorf("code %d, %s", code, wrong)
		}
		if !slices.ContainsFunc(groups[0].Conditions, func(c api.Condition) bool { return c.Standing && c.Signal == "high" }) {
			return fmt.Errorf("%+v", groups[0].Conditions)
		}
		return nil
	})
	testenv.Eventually(t, time.Minute, "the scrape", func() error {
		page, err := get("http://" + prom + `/api/v1/query?query=scalehook_build_info+and+on(instance)+up==1`)
		if err == nil && !strings.Contains(page, `"job":"scalehook"`) {
			err = errors.New(page)
		}
		return err
	})
}

func TestTheCommandLineOverTLSSaysWhatIsWrong(t *testing.T) {
	s := newSecured(t)
	s.write(t, "http.yml", "tls_config: {ca_file: ca.pem, cert_file: ops.pem, key_file: ops.key}\nauthorization: {credentials_file: ops.token}\n")
	s.write(t, "bad.yml", "tls_confg: {}\n")
	ca := []string{"--url", s.url, "--tls.ca-file", s.file("ca.pem")}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"a certificate by flags", append(s.with("ops"), "groups"), exitOK, "web"},
		{"a file for connections", []string{"groups", "--url", s.url, "--http.config.file", s.file("http.yml")}, exitOK, "web"},
		{"top", append(s.with("ops"), "top", "--once"), exitOK, "web"},
		{"an order with the token of the file", []string{"pause", "web", "--url", s.url, "--http.config.file", s.file("http.yml")}, exitOK, "is paused"},
		{"an order with a certificate and no token", append(s.with("ops"), "resume", "web"), exitRefused, "a bearer token is needed"},
		{"no authority", []string{"groups", "--url", s.url}, exitUnavailable, "name the authority that signed the server's certificate (--tls.ca-file"},
		{"another authority", []string{"groups", "--url", s.url, "--tls.ca-file", s.file("other.pem")}, exitUnavailable, "name the authority"},
		{"no certificate", append(slices.Clone(ca), "groups"), exitUnavailable, "the server wants a client certificate of an authority that it knows (--tls.cert-file"},
		{"a certificate that ended", append(s.with("ended"), "groups"), exitUnavailable, "our client certificate ended"},
		{"a certificate of another authority", append(s.with("stranger"), "groups"), exitUnavailable, "of an authority that it knows"},
		{"a certificate of another name", append(s.with("intruder"), "groups"), exitUnavailable, "client_allowed_sans"},
		{"no TLS", []string{"groups", "--url", "http" + strings.TrimPrefix(s.url, "https")}, exitFailed, "the server speaks TLS here: write https:// in the URL"},
		{"a misspelt file", []string{"groups", "--url", s.url, "--http.config.file", s.file("bad.yml")}, exitUsage, "tls_confg"},
		{"two ways at once", append(s.with("ops"), "groups", "--http.config.file", s.file("http.yml")), exitUsage, "one of them"},
		{"a key that does not fit", []string{"groups", "--url", s.url, "--tls.cert-file", s.file("ops.pem"), "--tls.key-file", s.file("ended.key")}, exitUsage, "client certificate: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, wrong, code := s.run(t, tt.args...)
			if code != tt.code || !strings.Contains(out+wrong, tt.want) {
				t.Errorf("code %d, want %d with %q:\n%s%s", code, tt.code, tt.want, out, wrong)
			}
		})
	}
	// The operator of the server sees them too.
	var refused []string
	data, err := os.ReadFile(s.audit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var e audit.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Action == "connect":
			refused = append(refused, e.Reason)
		case e.Action == "pause" && (e.By != "ops@127.0.0.1" || e.Auth != "token" || e.Certificate != "ops" || !strings.HasPrefix(e.Agent, "scalehook")):
			t.Errorf("the pause is %+v", e)
		case e.Action == "resume" && (e.By != "cert:ops@127.0.0.1" || e.Auth != "certificate" || e.Outcome != audit.Refused):
			t.Errorf("the order without a token is %+v", e)
		}
	}
	for _, want := range []string{"didn't provide a certificate", "expired", "could not find allowed SANs"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("no word of %q in the log", want)
		}
	}
	// No more of one sender than the bound, and the order without a token is one of them.
	if len(refused) != 4 || !slices.Contains(refused, "tls: client didn't provide a certificate") {
		t.Errorf("the audit log has the refused connections %q", refused)
	}
}

func TestACertificateIsReplacedWithoutARestart(t *testing.T) {
	s := newSecured(t)
	shown := func() *x509.Certificate {
		t.Helper()
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), s.as(t, "ops"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	before := shown()
	next := s.ca.issue(t, "server", time.Now().Add(time.Hour))
	if got := shown(); !got.Equal(next) || got.Equal(before) {
		t.Errorf("the server shows %s, the file has %s, before it was %s", got.SerialNumber, next.SerialNumber, before.SerialNumber)
	}
	// One that ended is shown too, and the command line says so.
	s.ca.issue(t, "server", time.Now().Add(-time.Minute))
	if _, wrong, code := s.run(t, append(s.with("ops"), "groups")...); code != exitUnavailable || !strings.Contains(wrong, "the server's certificate ended at ") {
		t.Errorf("code %d: %s", code, wrong)
	}
	s.ca.ip = net.IPv4(127, 0, 0, 99)
	s.ca.issue(t, "server", time.Now().Add(time.Hour))
	if _, wrong, code := s.run(t, append(s.with("ops"), "groups")...); code != exitUnavailable || !strings.Contains(wrong, "reach the server by a name that its certificate has") {
		t.Errorf("code %d: %s", code, wrong)
	}
	// A half-written file breaks connections, not the server.
	s.write(t, "server.pem", "-----BEGIN CERTIFICATE-----\n")
	if _, _, code := s.run(t, append(s.with("ops"), "groups")...); code != exitUnavailable {
		t.Errorf("code %d", code)
	}
	s.ca.ip = before.IPAddresses[0]
	s.ca.issue(t, "server", time.Now().Add(time.Hour))
	if _, wrong, code := s.run(t, append(s.with("ops"), "groups")...); code != exitOK {
		t.Errorf("code %d: %s", code, wrong)
	}
}

func TestATokenIsReplacedWithoutARestartOrAGap(t *testing.T) {
	s := newSecured(t)
	transport := &http.Transport{TLSClientConfig: s.as(t, "ops")}
	defer transport.CloseIdleConnections()
	try := func(token string) int {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, s.url+"/api/v1/groups/web/resume", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	expect := func(when string, first, second int) {
		t.Helper()
		if got := [2]int{try(firstToken), try(secondToken)}; got != [2]int{first, second} {
			t.Errorf("%s: answered %v, want %d and %d", when, got, first, second)
		}
	}
	expect("one token", 200, 401)
	s.write(t, "ops.token", secondToken+"\n"+firstToken+"\n")
	expect("two lines", 200, 200)
	s.write(t, "ops.token", secondToken+"\n")
	expect("the first line alone, in the next request", 401, 200)
	// The file is replaced again and again: whoever has the token that stays is never turned away.
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			text := secondToken + "\n"
			if i%2 == 0 {
				text = firstToken + "\n" + text
			}
			if err := errors.Join(os.WriteFile(s.file("next"), []byte(text), 0o600), os.Rename(s.file("next"), s.file("ops.token"))); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	for asking := true; asking; {
		select {
		case <-done:
			asking = false
		default:
		}
		if got := try(secondToken); got != http.StatusOK {
			t.Fatalf("answered %d in between", got)
		}
	}
	if err := os.Remove(s.file("ops.token")); err != nil {
		t.Fatal(err)
	}
	expect("no file", 503, 503)
	s.write(t, "ops.token", firstToken+"\n")
	expect("the way back", 200, 401)
}
