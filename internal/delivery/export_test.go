package delivery

import "net/http"

// Over sends a hook's deliveries over another transport, for tests without a net.
func (p Prepared) Over(name string, rt http.RoundTripper) Prepared {
	for _, r := range p.receivers {
		if r.Name == name {
			r.client.Transport = rt
		}
	}
	return p
}

// The bounds, for the tests of them.
const (
	Every      = every
	Grace      = grace
	MaxAge     = maxAge
	MaxWaiting = maxWaiting
	Page       = page
)

// RetryAfter reads the header.
var RetryAfter = retryAfter
