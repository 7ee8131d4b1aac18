package alertmanager

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
)

// Config says which Alertmanagers there are and how far they are believed.
type Config struct {
	// URLs are all peers of one cluster, each by its own address and never through a
	// load balancer, like http://127.0.0.1:9093, with the route prefix if there is one.
	URLs []string `yaml:"urls"`
	// Timeout bounds one look-up; the peers are asked at the same time.
	Timeout time.Duration `yaml:"timeout"`
	// MaxAge is how long ago an alert may have been updated, by Alertmanager's own
	// clock. Prometheus renews a firing alert every --rules.alert.resend-delay, one
	// minute unless it is set; state at least twice that.
	MaxAge time.Duration `yaml:"max_age"`
	// MaxClockSkew is how far Alertmanager's clock may be from ours. Its answers
	// tell the time in whole seconds.
	MaxClockSkew time.Duration `yaml:"max_clock_skew"`
	// HTTPClient is the client section of the Prometheus family: authorization, TLS,
	// proxy. Secrets in files are read again when they are used.
	HTTPClient promconfig.HTTPClientConfig `yaml:"http_client"`
}

// DefaultConfig returns what holds for everything that is not stated.
func DefaultConfig() Config {
	return Config{
		URLs:         []string{"http://127.0.0.1:9093"},
		Timeout:      5 * time.Second,
		MaxAge:       3 * time.Minute,
		MaxClockSkew: 5 * time.Second,
		HTTPClient:   promconfig.DefaultHTTPClientConfig,
	}
}

// UnmarshalYAML sets the defaults before the fields that are stated.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	*c = DefaultConfig()
	type plain Config
	return unmarshal((*plain)(c))
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if len(c.URLs) == 0 {
		errs = append(errs, errors.New("urls: name every peer, like http://127.0.0.1:9093"))
	}
	seen := map[string]bool{}
	for i, peer := range c.URLs {
		switch u, err := url.Parse(peer); {
		case (err == nil && u.User != nil) || (err != nil && strings.Contains(peer, "@")):
			// Not repeated: it holds a password.
			errs = append(errs, fmt.Errorf("urls[%d]: put name and password into http_client.basic_auth", i))
		case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
			errs = append(errs, fmt.Errorf("urls[%d] %q: use an http or https URL such as http://127.0.0.1:9093", i, peer))
		case u.RawQuery != "" || u.Fragment != "":
			errs = append(errs, fmt.Errorf("urls[%d] %q: leave out query and fragment", i, peer))
		}
		if seen[peer] {
			errs = append(errs, fmt.Errorf("urls[%d] %q is named twice", i, peer))
		}
		seen[peer] = true
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("timeout %v: use 100ms to 1m", c.Timeout))
	}
	if c.MaxAge < time.Second || c.MaxAge > time.Hour {
		errs = append(errs, fmt.Errorf("max_age %v: use 1s to 1h, at least twice Prometheus's --rules.alert.resend-delay", c.MaxAge))
	}
	if c.MaxClockSkew < 2*time.Second || c.MaxClockSkew > time.Minute {
		errs = append(errs, fmt.Errorf("max_clock_skew %v: use 2s to 1m", c.MaxClockSkew))
	}
	if err := c.HTTPClient.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("http_client: %w", err))
	}
	return errors.Join(errs...)
}
