package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Webhook is a receiver that is told of every activity that ended.
type Webhook struct {
	// Name is for logs and metrics, and how far the receiver was told is remembered
	// by it: under another name it is told only of what ends from then on.
	Name string `yaml:"name"`
	// URL is where activities are posted. Redirects are not followed.
	URL string `yaml:"url"`
	// SecretFile holds the key that every delivery is signed with, 16 characters or
	// more. It is read again for each delivery.
	SecretFile string `yaml:"secret_file"`
	// Groups are those whose activities are told. Default: all.
	Groups []string `yaml:"groups"`
	// Kinds are the kinds of activities that are told: scale_out, scale_in, handover,
	// fill, adopt, replace, standby, cleanup, release. Default: all.
	Kinds []scaling.ActivityKind `yaml:"kinds"`
	// Statuses are those of the activities that are told: done, undone, failed.
	// Default: all.
	Statuses []scaling.ActivityStatus `yaml:"statuses"`
	// Timeout bounds one try, from dialling to the end of the answer. Default 10s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxTries is how often one delivery is tried, 1 to 100. Default 10.
	MaxTries int `yaml:"max_tries"`
	// GiveUpAfter bounds all tries of one delivery and the pauses between them; what
	// ended later waits behind it. Default 15m.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
	// HTTPClient is the client section of the Prometheus family: TLS, authorization,
	// a proxy. Default: no proxy, also where the environment names one.
	HTTPClient promconfig.HTTPClientConfig `yaml:"http_client"`

	redirects bool // are to be followed, in whatever spelling of true
}

// UnmarshalYAML lays a file's values over the defaults.
func (w *Webhook) UnmarshalYAML(unmarshal func(any) error) error {
	type plainWebhook Webhook
	*w = Webhook{Timeout: 10 * time.Second, MaxTries: 10, GiveUpAfter: 15 * time.Minute, HTTPClient: promconfig.DefaultHTTPClientConfig}
	err := unmarshal((*plainWebhook)(w))
	var stated struct {
		HTTPClient struct {
			Follow bool           `yaml:"follow_redirects"`
			Rest   map[string]any `yaml:",inline"`
		} `yaml:"http_client"`
		Rest map[string]any `yaml:",inline"`
	}
	if err == nil {
		err = unmarshal(&stated)
	}
	w.redirects = stated.HTTPClient.Follow
	w.HTTPClient.FollowRedirects = false // the family's default is to follow
	return err
}

// endedStatuses are those with which an activity is over.
func endedStatuses() []scaling.ActivityStatus {
	return []scaling.ActivityStatus{scaling.ActivityDone, scaling.ActivityUndone, scaling.ActivityFailed}
}

func (c *Config) validateWebhooks(p *problems) {
	seen := map[string]bool{}
	for i, w := range c.Webhooks {
		at := func(keys ...string) []string { return append([]string{"webhooks", strconv.Itoa(i)}, keys...) }
		if err := scaling.ValidName(w.Name); err != nil {
			p.add(at("name"), err)
		} else if seen[w.Name] {
			p.addf(at("name"), "a webhook called %q is there already", w.Name)
		}
		seen[w.Name] = true
		p.add(at("url"), validReceiver(w.URL))
		if w.SecretFile == "" {
			p.addf(at("secret_file"), "missing: the file that holds the key which deliveries are signed with (try: openssl rand -hex 32)")
		}
		for j, g := range w.Groups {
			if c.Groups[g] == nil {
				p.addf(at("groups", strconv.Itoa(j)), "no group is called %q%s", g, there(c.Groups))
			}
		}
		for j, k := range w.Kinds {
			oneOf(p, at("kinds", strconv.Itoa(j)), k, scaling.ActivityKinds())
		}
		for j, s := range w.Statuses {
			oneOf(p, at("statuses", strconv.Itoa(j)), s, endedStatuses())
		}
		if w.Timeout < 100*time.Millisecond || w.Timeout > time.Minute {
			p.addf(at("timeout"), "%v: use 100ms to 1m", w.Timeout)
		}
		if w.MaxTries < 1 || w.MaxTries > 100 {
			p.addf(at("max_tries"), "%d: use 1 to 100", w.MaxTries)
		}
		if w.GiveUpAfter < w.Timeout || w.GiveUpAfter > 24*time.Hour {
			p.addf(at("give_up_after"), "%v: use %v (timeout) to 24h", w.GiveUpAfter, w.Timeout)
		}
		if w.redirects {
			p.addf(at("http_client", "follow_redirects"), "redirects are never followed: they would lead what is told, and its signature, to wherever the receiver says; leave it out")
		}
	}
}

// validReceiver refuses what cannot be posted to. It does not repeat the URL: some
// receivers' paths are as good as a password.
func validReceiver(text string) error {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return errors.New("missing: the URL that activities are posted to, such as https://hooks.example/scalehook")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return errors.New("use an http or https URL such as https://hooks.example/scalehook")
	case u.Fragment != "":
		return errors.New("leave out the fragment")
	case u.User != nil:
		return errors.New("put name and password into http_client.basic_auth")
	}
	return nil
}

// oneOf reports a word that is none of those there are, and which may be meant.
func oneOf[T ~string](p *problems, path []string, word T, known []T) {
	if slices.Contains(known, word) {
		return
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = string(k)
	}
	hint := ""
	if near := nearest(string(word), words); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	p.addf(path, "%q: use %s%s", word, strings.Join(words, ", "), hint)
}

// WebhookProblem says that the webhook of that index cannot be used: where the
// file says what the error is about, its secret or its client, and what would be
// right.
func (c *Config) WebhookProblem(index int, err error) error {
	p := problems{at: c.lines}
	for _, one := range parts(err) {
		path := []string{"webhooks", strconv.Itoa(index), "secret_file"}
		text, client := strings.CutPrefix(one.text, "http_client: ")
		if client {
			path[2] = "http_client"
		}
		if hint := advice(path, one.err); hint != "" {
			text += ": " + hint
		}
		p.addf(path, "%s", text)
	}
	return p.err()
}
