package doctor

import (
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// webhookPath is where the server takes Alertmanager's notifications.
const webhookPath = "/api/v1/alertmanager"

// hidden is what Alertmanager's API says in the place of a secret. From 0.26 on the
// URL of a webhook is one.
const hidden = "<secret>"

// amReceiver is a receiver with its webhooks, and how many other ways to tell people
// it has.
type amReceiver struct {
	Name     string      `yaml:"name"`
	Webhooks []amWebhook `yaml:"webhook_configs"`

	line   int
	others []string
}

// UnmarshalYAML also notes what else is notified.
func (r *amReceiver) UnmarshalYAML(node *yaml.Node) error {
	type plain amReceiver
	r.line = node.Line
	if err := node.Decode((*plain)(r)); err != nil {
		return err
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i].Value
		if strings.HasSuffix(key, "_configs") && key != "webhook_configs" && len(node.Content[i+1].Content) > 0 {
			r.others = append(r.others, key)
		}
	}
	return nil
}

// amWebhook is one webhook of a receiver.
type amWebhook struct {
	URL          string    `yaml:"url"`
	URLFile      string    `yaml:"url_file"`
	SendResolved *bool     `yaml:"send_resolved"`
	MaxAlerts    uint64    `yaml:"max_alerts"`
	HTTPConfig   *amHTTP   `yaml:"http_config"`
	Payload      yaml.Node `yaml:"payload"`

	line int
}

// UnmarshalYAML keeps the line.
func (w *amWebhook) UnmarshalYAML(node *yaml.Node) error {
	type plain amWebhook
	w.line = node.Line
	return node.Decode((*plain)(w))
}

// secret reports that one cannot see where it posts.
func (w *amWebhook) secret() bool { return w.URLFile != "" || w.URL == hidden }

// ours reports whether it posts to a scalehook.
func (w *amWebhook) ours() bool {
	u, err := url.Parse(w.URL)
	return err == nil && strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), webhookPath)
}

// amHTTP is the part of an HTTP client that decides whether a post is accepted.
type amHTTP struct {
	FollowRedirects *bool `yaml:"follow_redirects"`
	Authorization   *struct {
		Type            string `yaml:"type"`
		Credentials     string `yaml:"credentials"`
		CredentialsFile string `yaml:"credentials_file"`
	} `yaml:"authorization"`
	BearerToken     string    `yaml:"bearer_token"`
	BearerTokenFile string    `yaml:"bearer_token_file"`
	BasicAuth       yaml.Node `yaml:"basic_auth"`
	OAuth2          yaml.Node `yaml:"oauth2"`
	TLSConfig       struct {
		CertFile string `yaml:"cert_file"`
		Cert     string `yaml:"cert"`
	} `yaml:"tls_config"`
}

// bearer is the token that is sent and the file that it is read from; both are empty
// where none is sent.
func (h *amHTTP) bearer() (token, file string) {
	if h == nil {
		return "", ""
	}
	if a := h.Authorization; a != nil && (a.Type == "" || strings.EqualFold(a.Type, "bearer")) {
		return a.Credentials, a.CredentialsFile
	}
	return h.BearerToken, h.BearerTokenFile
}

// other reports that somebody is let in by something else than a bearer token.
func (h *amHTTP) other() bool {
	return h != nil && (!h.OAuth2.IsZero() || h.TLSConfig.CertFile != "" || h.TLSConfig.Cert != "")
}

// posting finds the receivers that post to this scalehook, and the webhooks with
// which they do. guess says that this was seen from their names alone.
func (a *amConfig) posting(names []string) (ours map[string][]*amWebhook, guess bool) {
	ours = map[string][]*amWebhook{}
	for i := range a.Receivers {
		r := &a.Receivers[i]
		for j := range r.Webhooks {
			w := &r.Webhooks[j]
			if len(names) > 0 && slices.Contains(names, r.Name) || len(names) == 0 && w.ours() {
				ours[r.Name] = append(ours[r.Name], w)
			}
		}
	}
	if len(ours) > 0 || len(names) > 0 {
		return ours, false
	}
	for i := range a.Receivers {
		r := &a.Receivers[i]
		for j := range r.Webhooks {
			if w := &r.Webhooks[j]; w.secret() && strings.Contains(strings.ToLower(r.Name), "scalehook") {
				ours[r.Name] = append(ours[r.Name], w)
			}
		}
	}
	return ours, true
}
