package prometheus

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
)

// Config says where Prometheus is and how far it is believed.
type Config struct {
	// URL is Prometheus's own, like http://127.0.0.1:9090, with its route prefix if it
	// has one. Anything that answers /api/v1/query will do. Default
	// http://127.0.0.1:9090.
	URL string `yaml:"url"`
	// Timeout bounds one look-up, from dialling to the last byte. Default 5s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxAge is how old the newest sample behind a reading or a signal may be, by
	// Prometheus's own clock. Older readings are missing, older signals unknown. State
	// at least three scrapes and one evaluation. Default 2m.
	MaxAge time.Duration `yaml:"max_age"`
	// MaxClockSkew is how far Prometheus's clock may be from ours. Evidence times are
	// compared with the ends of our own actions, so beyond that nothing is believed.
	// Default 5s.
	MaxClockSkew time.Duration `yaml:"max_clock_skew"`
	// HTTPClient is the client section of the Prometheus family: authorization, TLS,
	// proxy. Secrets in files are read again when they are used.
	HTTPClient promconfig.HTTPClientConfig `yaml:"http_client"`
}

// DefaultConfig returns what holds for everything that is not stated.
func DefaultConfig() Config {
	return Config{
		URL:          "http://127.0.0.1:9090",
		Timeout:      5 * time.Second,
		MaxAge:       2 * time.Minute,
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

// SetDirectory resolves relative paths of secrets and certificates against the
// folder of the configuration file.
func (c *Config) SetDirectory(dir string) { c.HTTPClient.SetDirectory(dir) }

// Validate reports everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); (err == nil && u.User != nil) || (err != nil && strings.Contains(c.URL, "@")) {
		// Not repeated: it holds a password.
		errs = append(errs, errors.New("url: put name and password into http_client.basic_auth"))
	} else if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		errs = append(errs, fmt.Errorf("url %q: use an http or https URL such as http://127.0.0.1:9090", c.URL))
	} else if u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, fmt.Errorf("url %q: leave out query and fragment", c.URL))
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("timeout %v: use 100ms to 1m", c.Timeout))
	}
	if c.MaxAge < time.Second || c.MaxAge > time.Hour {
		errs = append(errs, fmt.Errorf("max_age %v: use 1s to 1h, at least three scrapes and one evaluation", c.MaxAge))
	}
	if c.MaxClockSkew < time.Second || c.MaxClockSkew > time.Minute {
		errs = append(errs, fmt.Errorf("max_clock_skew %v: use 1s to 1m", c.MaxClockSkew))
	}
	if err := c.HTTPClient.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("http_client: %w", err))
	}
	return errors.Join(errs...)
}
