package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// unreachable says that no answer came and, where TLS is why, what would be right.
func unreachable(err error) error {
	if hint := tlsHint(err); hint != "" {
		return fmt.Errorf("%w: %w: %s", ErrUnreachable, err, hint)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func tlsHint(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		if now := time.Now(); invalid.Cert != nil && now.After(invalid.Cert.NotAfter) {
			return fmt.Sprintf("the server's certificate ended at %s: replace it there", invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
		}
		return "the server's certificate is not valid yet: compare the clocks"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "name the authority that signed the server's certificate (--tls.ca-file, or ca_file in --http.config.file)"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "reach the server by a name that its certificate has, or give it one with this name"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return "the server speaks no TLS here: write http:// in the URL"
	}
	// What the server says of our certificate has no type of its own.
	text := err.Error()
	const remote = "remote error: tls: "
	switch {
	case strings.Contains(text, remote+"certificate required"), strings.Contains(text, remote+"handshake failure"):
		return "the server wants a client certificate of an authority that it knows (--tls.cert-file and --tls.key-file, or --http.config.file)"
	case strings.Contains(text, remote+"expired certificate"):
		return "our client certificate ended: replace it"
	case strings.Contains(text, remote+"unknown certificate authority"):
		return "the server does not know the authority that signed our client certificate (client_ca_file of its web configuration)"
	case strings.Contains(text, remote+"bad certificate"), strings.Contains(text, remote+"certificate unknown"), strings.Contains(text, remote+"unknown certificate"):
		return "the server does not take our client certificate: look at its log, and at client_allowed_sans of its web configuration"
	}
	return ""
}
