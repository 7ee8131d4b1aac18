package config

import (
	"reflect"
	"strconv"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/alertmanager"
	"github.com/scalehook/scalehook/internal/source/prometheus"
)

// Alertmanager is one Alertmanager. Those of a list are peers of one cluster and
// differ in nothing but their URL.
type Alertmanager struct {
	// URL is the peer's own address, never that of a load balancer.
	URL string `yaml:"url"`
	// Timeout bounds one look-up. Default 5s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxAge is how long ago an alert may have been updated. Default 3m.
	MaxAge time.Duration `yaml:"max_age"`
	// MaxClockSkew is how far its clock may be from ours. Default 5s.
	MaxClockSkew time.Duration `yaml:"max_clock_skew"`
	// HTTPClient is the client section of the Prometheus family.
	HTTPClient promconfig.HTTPClientConfig `yaml:"http_client"`
}

// UnmarshalYAML lays a file's values over the defaults.
func (a *Alertmanager) UnmarshalYAML(unmarshal func(any) error) error {
	type plainAlertmanager Alertmanager
	d := alertmanager.DefaultConfig()
	*a = Alertmanager{Timeout: d.Timeout, MaxAge: d.MaxAge, MaxClockSkew: d.MaxClockSkew, HTTPClient: d.HTTPClient}
	return unmarshal((*plainAlertmanager)(a))
}

func (a Alertmanager) config(urls ...string) alertmanager.Config {
	return alertmanager.Config{
		URLs: urls, Timeout: a.Timeout, MaxAge: a.MaxAge, MaxClockSkew: a.MaxClockSkew, HTTPClient: a.HTTPClient,
	}
}

// alertmanagers is the list as one driver's configuration.
func (c *Config) alertmanagers() alertmanager.Config {
	urls := make([]string, len(c.Alertmanagers))
	for i, a := range c.Alertmanagers {
		urls[i] = a.URL
	}
	return c.Alertmanagers[0].config(urls...)
}

func (c *Config) validateSources(p *problems) {
	if c.Prometheus != nil {
		at := []string{"prometheus"}
		p.add(at, c.Prometheus.Validate())
		if least := 3*c.Monitoring.ScrapeInterval + c.Monitoring.EvaluationInterval; c.Prometheus.MaxAge < least {
			p.addf(append(at, "max_age"), "%v is less than three scrapes and one evaluation: use %v or more", c.Prometheus.MaxAge, least)
		}
	}
	if len(c.Alertmanagers) == 0 {
		return
	}
	first := c.Alertmanagers[0]
	p.add([]string{"alertmanagers"}, c.alertmanagers().Validate())
	for i, a := range c.Alertmanagers[1:] {
		if !reflect.DeepEqual(a.config(), first.config()) {
			p.addf([]string{"alertmanagers", strconv.Itoa(i + 1)}, "differs from the first in more than its url: they are peers of one cluster")
		}
	}
}

// A source is an open source. Several runtimes may hold it.
type source struct {
	scaling.Confirmer

	cfg     any
	holders int
	close   func()
}

// openSources opens Prometheus first: it is asked first.
func (r *Runtime) openSources(old *Runtime) error {
	if c := r.cfg.Prometheus; c != nil {
		s, err := r.openSource(old, *c, func() (*source, error) {
			s, err := prometheus.New(*c)
			if err != nil {
				return nil, err
			}
			return &source{Confirmer: s, close: s.Close}, nil
		})
		if err != nil {
			return r.cfg.placed(err, "prometheus")
		}
		if m, ok := s.Confirmer.(scaling.Meter); ok {
			r.Meter = m
		}
	}
	if len(r.cfg.Alertmanagers) == 0 {
		return nil
	}
	c := r.cfg.alertmanagers()
	_, err := r.openSource(old, c, func() (*source, error) {
		s, err := alertmanager.New(c)
		if err != nil {
			return nil, err
		}
		return &source{Confirmer: s, close: s.Close}, nil
	})
	return r.cfg.placed(err, "alertmanagers")
}

func (r *Runtime) openSource(old *Runtime, cfg any, open func() (*source, error)) (*source, error) {
	var s *source
	if old != nil {
		for _, o := range old.sources {
			if reflect.DeepEqual(o.cfg, cfg) {
				s = o
			}
		}
	}
	if s == nil {
		var err error
		if s, err = open(); err != nil {
			return nil, err
		}
		s.cfg = cfg
	}
	s.holders++
	r.sources = append(r.sources, s)
	r.Confirmers = append(r.Confirmers, s.Confirmer)
	return s, nil
}
