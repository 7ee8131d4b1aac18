package doctor

import (
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/rules"
)

// Expected is what scalehook's configuration asks of the programs around it.
type Expected struct {
	// Groups are the scaling groups by name.
	Groups []Group
	// Rules are the intervals that the rules have to be rendered for.
	Rules rules.Options
	// Repeat is monitoring.repeat_interval; 0 where it is not stated.
	Repeat time.Duration
	// Tokens are the files of the tokens that the server accepts.
	Tokens []Token
	// Simulated says that every provider is: the readings come from the server itself.
	Simulated bool
	// Alertmanagers are the peers' URLs, MaxAge is how old an alert of theirs may be.
	Alertmanagers []string
	MaxAge        time.Duration
	// Address is the server's, as host:port, to know it among the scrape targets;
	// empty for not known.
	Address string
	// Leave says what the labels of an alert are once it left Prometheus, where its
	// configuration is known (Leaving); nil for those of the rules.
	Leave func(alert map[string]string) map[string]string
	// Receivers are the names of the receivers that post to this scalehook, where that
	// cannot be seen from their URL; empty to go by the URL.
	Receivers []string
}

// Group is what is asked for a group.
type Group struct {
	Name string
	// Lease is how long one notification keeps its condition standing.
	Lease time.Duration
}

// Token is a bearer token of the server.
type Token struct {
	Name, Role, File string
}

// Expect reads out of the configuration what it asks for.
func Expect(c *config.Config) Expected {
	e := Expected{
		Rules: rules.Options{
			ScrapeInterval: c.Monitoring.ScrapeInterval, EvaluationInterval: c.Monitoring.EvaluationInterval, RateWindow: c.Monitoring.RateWindow,
		},
		Repeat: c.Monitoring.RepeatInterval, Simulated: true,
	}
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		g := c.Groups[name]
		e.Groups = append(e.Groups, Group{Name: name, Lease: g.LeaseTTL})
		if c.Providers[g.Provider].Simulated == nil {
			e.Simulated = false
		}
	}
	for _, t := range c.Tokens {
		e.Tokens = append(e.Tokens, Token{Name: t.Name, Role: t.Role, File: t.File})
	}
	for _, a := range c.Alertmanagers {
		e.Alertmanagers = append(e.Alertmanagers, a.URL)
		e.MaxAge = a.MaxAge
	}
	return e
}

// At returns the expectation of a server at that URL.
func (e Expected) At(serverURL string) Expected {
	e.Address = hostPort(serverURL)
	return e
}

// hostPort is where a URL leads; empty if it is none.
func hostPort(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	if u.Port() != "" {
		return u.Host
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return u.Host + ":" + port
}

// short writes a time as the configuration files do: 1m30s.
func short(d time.Duration) string { return model.Duration(d).String() }
