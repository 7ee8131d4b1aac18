package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/config"
)

func TestTheRedactedConfigurationHasNoSecretAndAllElse(t *testing.T) {
	const text = `# a comment with hunter2hunter2
owner: test
prometheus:
  url: http://127.0.0.1:9090
  http_client:
    basic_auth: {username: u, password: &p hunter2hunter2}
    http_headers: {X-Key: {values: [a]}}
    tls_config: {ca_file: ca.pem}
    proxy_url: http://u:p@hunter2:@hunter2@proxy.example:3128
webhooks:
  - {name: chat, url: "https://hooks.example/T/hunter2", secret_file: key}
  - {name: own, url: "https://own.example", secret_file: key}
providers:
  sim: {simulated: {}}
  kvm: {libvirt: {uri: "qemu+ssh://root@host:22/system?keyfile=/a:b@c"}}
balancers:
  pool: {simulated: {provider: sim}}
groups:
  web: {max: 2, provider: sim, adopt: [*p]}
`
	const want = `owner: test
prometheus:
    url: http://127.0.0.1:9090
    http_client:
        basic_auth: {username: u, password: <secret>}
        http_headers: {X-Key: {values: [<secret>]}}
        tls_config: {ca_file: ca.pem}
        proxy_url: http://<secret>@proxy.example:3128
webhooks:
    - {name: chat, url: "https://hooks.example/<secret>", secret_file: key}
    - {name: own, url: "https://own.example", secret_file: key}
providers:
    sim: {simulated: {}}
    kvm: {libvirt: {uri: "qemu+ssh://root@host:22/system?keyfile=/a:b@c"}}
balancers:
    pool: {simulated: {provider: sim}}
groups:
    web: {max: 2, provider: sim, adopt: [<secret>]}
`
	c, err := config.Parse("scalehook.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
