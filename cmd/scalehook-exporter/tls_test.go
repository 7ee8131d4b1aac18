package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// pair makes NAME.pem and NAME.key in a folder, signed by parent or by itself.
func pair(t *testing.T, dir, name string, ip net.IP, parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{ip}, DNSNames: []string{name + ".example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: parent == nil, BasicConstraintsValid: true,
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
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := errors.Join(os.WriteFile(filepath.Join(dir, name+".pem"), certPEM, 0o600), os.WriteFile(filepath.Join(dir, name+".key"), keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestTheExporterIsReachedWithTheRightCertificateOnly(t *testing.T) {
	address, dir := testenv.FreeAddress(t), t.TempDir()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ip := net.ParseIP(host)
	ca := pair(t, dir, "ca", ip, nil)
	pair(t, dir, "server", ip, &ca)
	prometheus, intruder := pair(t, dir, "prometheus", ip, &ca), pair(t, dir, "intruder", ip, &ca)
	web := "tls_server_config: {cert_file: server.pem, key_file: server.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: [prometheus.example]}\n"
	if err := os.WriteFile(filepath.Join(dir, "web.yml"), []byte(web), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		args := []string{"--web.listen-address=" + address, "--web.config.file=" + filepath.Join(dir, "web.yml"), "--libvirt.uri=test:///default"}
		ended <- run(ctx, args, io.Discard, io.Discard)
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	ask := func(certs ...tls.Certificate) (*x509.Certificate, error) {
		client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS12},
		}}
		resp, err := client.Get("https://" + address + "/metrics")
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, errors.New(resp.Status)
		}
		return resp.TLS.PeerCertificates[0], nil
	}
	testenv.Eventually(t, 30*time.Second, "the exporter", func() error { _, err := ask(prometheus); return err })
	for name, certs := range map[string][]tls.Certificate{"no certificate": nil, "another name": {intruder}} {
		if _, err := ask(certs...); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	next := pair(t, dir, "server", ip, &ca)
	if got, err := ask(prometheus); err != nil || !got.Equal(next.Leaf) {
		t.Errorf("the replaced certificate is not shown: %v", err)
	}
}
