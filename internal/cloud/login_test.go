package cloud

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"
)

// bare takes the variables of the environment away that a login reads, and puts it
// into a folder without files.
func bare(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "OS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("HOME", dir)
	t.Chdir(dir)
	return dir
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const cloudsYAML = `clouds:
  microstack:
    auth:
      auth_url: https://10.20.20.1:5000/v3
      username: admin
      password: secret
      project_name: admin
      user_domain_name: default
      project_domain_name: default
    region_name: microstack
    interface: public
    identity_api_version: 3
    verify: false
  credential:
    auth_type: v3applicationcredential
    auth:
      auth_url: https://cloud.example:5000/v3
      application_credential_id: abc
      application_credential_secret: secret
      project_name: ignored
    interface: internal
  no-domain:
    auth: {auth_url: "http://x:5000", username: u, password: p, project_name: demo}
  no-password:
    auth: {auth_url: "http://x:5000", username: u, project_name: demo}
  no-project:
    auth: {auth_url: "http://x:5000", username: u, password: p}
`

func TestWhereALoginComesFrom(t *testing.T) {
	dir := bare(t)
	file := write(t, filepath.Join(dir, "elsewhere", "clouds.yaml"), cloudsYAML)
	rc := write(t, filepath.Join(dir, "microstack.rc"), "#!/bin/bash\nexport OS_AUTH_URL=https://10.20.20.1:5000/v3\nexport OS_USERNAME=admin\nexport OS_PASSWORD='se$ret'\nexport OS_PROJECT_NAME=admin\nexport OS_USER_DOMAIN_NAME=default\nexport OS_PROJECT_DOMAIN_NAME=default\nexport OS_REGION_NAME=microstack\nexport OS_CACERT=\n")
	no := false
	for _, c := range []struct {
		name     string
		cfg      Config
		env      map[string]string
		user     string
		region   string
		face     gophercloud.Availability
		insecure bool
		scope    gophercloud.AuthScope
	}{
		{name: "a cloud of a file", cfg: Config{Cloud: "microstack", CloudsFile: file}, user: "admin", region: "microstack", face: "public", insecure: true, scope: gophercloud.AuthScope{ProjectName: "admin", DomainName: "default"}},
		{name: "the configuration goes before the file", cfg: Config{Cloud: "microstack", CloudsFile: file, Region: "other", Interface: "admin"}, user: "admin", region: "other", face: "admin", insecure: true, scope: gophercloud.AuthScope{ProjectName: "admin", DomainName: "default"}},
		{name: "OS_CLOUD and OS_CLIENT_CONFIG_FILE", env: map[string]string{"OS_CLOUD": "microstack", "OS_CLIENT_CONFIG_FILE": file}, user: "admin", region: "microstack", face: "public", insecure: true, scope: gophercloud.AuthScope{ProjectName: "admin", DomainName: "default"}},
		{name: "an application credential, which has its project", cfg: Config{Cloud: "credential", CloudsFile: file}, face: "internal"},
		{name: "the domain goes without saying", cfg: Config{Cloud: "no-domain", CloudsFile: file}, user: "u", face: "public", scope: gophercloud.AuthScope{ProjectName: "demo", DomainID: "default"}},
		{name: "MicroStack's rc file", cfg: Config{RCFile: rc, Verify: &no}, env: map[string]string{"OS_USERNAME": "wrong", "OS_CLOUD": "wrong"}, user: "admin", region: "microstack", face: "public", insecure: true, scope: gophercloud.AuthScope{ProjectName: "admin", DomainName: "default"}},
		{name: "the environment", env: map[string]string{"OS_AUTH_URL": "http://x:5000/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p", "OS_PROJECT_ID": "42", "OS_INTERFACE": "internalURL", "OS_INSECURE": "true"}, user: "u", face: "internal", insecure: true, scope: gophercloud.AuthScope{ProjectID: "42"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			l, err := c.cfg.login()
			if err != nil {
				t.Fatal(err)
			}
			var scope gophercloud.AuthScope
			if l.auth.Scope != nil {
				scope = *l.auth.Scope
			}
			if diff := cmp.Diff(c.scope, scope); diff != "" {
				t.Errorf("scope: -want +got\n%s", diff)
			}
			if l.auth.Username != c.user || l.region != c.region || l.face != c.face || l.tls.InsecureSkipVerify != c.insecure || !l.auth.AllowReauth {
				t.Errorf("user %q region %q interface %q insecure %t renewed %t", l.auth.Username, l.region, l.face, l.tls.InsecureSkipVerify, l.auth.AllowReauth)
			}
			if _, err := l.auth.ToTokenV3CreateMap(nil); err != nil {
				t.Errorf("gophercloud refuses it: %v", err)
			}
		})
	}
}

func TestALoginThatCannotBe(t *testing.T) {
	dir := bare(t)
	file := write(t, filepath.Join(dir, "elsewhere", "clouds.yaml"), cloudsYAML)
	for _, c := range []struct {
		name string
		cfg  Config
		env  map[string]string
		want string
	}{
		{"nothing is said", Config{}, nil, "OS_AUTH_URL is not set: name a cloud of clouds.yaml"},
		{"a cloud that is not in the file", Config{Cloud: "microstak", CloudsFile: file}, nil, `cloud "microstak" does not exist; did you mean "microstack"?`},
		{"no file", Config{Cloud: "microstack"}, nil, "no clouds.yaml: looked for clouds.yaml, "},
		{"a file that is not there", Config{Cloud: "x", CloudsFile: filepath.Join(dir, "none.yaml")}, nil, "none.yaml"},
		{"a file with several clouds and none named", Config{CloudsFile: file}, nil, `say which cloud of it is meant: "credential", "microstack"`},
		{"a file that is not YAML", Config{Cloud: "x", CloudsFile: write(t, filepath.Join(dir, "bad.yaml"), "clouds: [")}, nil, "bad.yaml"},
		{"no password", Config{Cloud: "no-password", CloudsFile: file}, nil, `cloud "no-password": password is missing`},
		{"no project", Config{Cloud: "no-project", CloudsFile: file}, nil, "project_name or project_id is missing"},
		{"a CA file that is not there", Config{Cloud: "microstack", CloudsFile: file, CAFile: "/nowhere/ca.pem"}, nil, "/nowhere/ca.pem"},
		{"a CA file without certificates", Config{Cloud: "no-domain", CloudsFile: file, CAFile: file}, nil, "CA"},
		{"an rc file that is not there", Config{RCFile: filepath.Join(dir, "none.rc")}, nil, "none.rc"},
		{"an rc file that sets nothing", Config{RCFile: write(t, filepath.Join(dir, "empty.rc"), "# OS_X=1\n")}, nil, "sets no variable OS_"},
		{"an rc file that asks for the password", Config{RCFile: write(t, filepath.Join(dir, "asks.rc"), "export OS_AUTH_URL=http://x\nread -sr OS_PASSWORD_INPUT\nexport OS_PASSWORD=$OS_PASSWORD_INPUT\n")}, nil, `line 3: OS_PASSWORD: has a '$' that only a shell understands`},
		{"an interface that there is not", Config{}, map[string]string{"OS_AUTH_URL": "http://x", "OS_INTERFACE": "secret"}, `OS_INTERFACE "secret"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			if _, err := c.cfg.login(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

func TestWhatAnRCFileSays(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       map[string]string
	}{
		{"MicroStack's", "export OS_USERNAME=admin\nexport OS_PASSWORD=abc\n", map[string]string{"OS_USERNAME": "admin", "OS_PASSWORD": "abc"}},
		{"quotes", "export OS_A='a b$c'\nOS_B=\"x \\\"y\\\" \\z\"\nOS_C=a\\ b\n", map[string]string{"OS_A": "a b$c", "OS_B": `x "y" \z`, "OS_C": "a b"}},
		{"comments and other variables", "# export OS_A=1\nPATH=/bin\nexport OS_B=2 # two\nexport OS_C=3; export OS_D=4\n", map[string]string{"OS_B": "2", "OS_C": "3"}},
		{"commands are passed over", "unset OS_TOKEN\nif [ -z \"$OS_X\" ]; then\n  export OS_Y=\"\"\nfi\nrm -rf $(x)\n", map[string]string{"OS_Y": ""}},
		{"the lines of another system", "export OS_A=1\r\nexport\tOS_B=2\r\n", map[string]string{"OS_A": "1", "OS_B": "2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseRC(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	for _, bad := range []string{"OS_A=$(pass)", "OS_A=`pass`", `OS_A="$B"`, "OS_A='x", `OS_A="x`} {
		if got, err := parseRC(bad); err == nil {
			t.Errorf("%s was read as %q", bad, got)
		}
	}
}

func TestAConfigurationThatCannotBe(t *testing.T) {
	no := false
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"two sources", Config{RCFile: "x", Cloud: "y"}, "use it without cloud"},
		{"an interface that there is not", Config{Interface: "secret"}, "use one of public, internal, admin"},
		{"a timeout that nothing meets", Config{Timeout: 1}, "at least 1s"},
		{"a CA file that nobody reads", Config{CAFile: "ca.pem", Verify: &no}, "has no effect"},
		{"a service that there is not", Config{Endpoints: map[string]string{"nova": "http://x"}}, `"nova" is no service`},
		{"an endpoint that is none", Config{Endpoints: map[string]string{"compute": "x:8774"}}, "use an URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	cfg := Config{CloudsFile: "clouds.yaml", CAFile: "/abs/ca.pem", RCFile: "~/x.rc"}
	cfg.SetDirectory("/etc/scalehook")
	if cfg.CloudsFile != "/etc/scalehook/clouds.yaml" || cfg.CAFile != "/abs/ca.pem" || cfg.RCFile != "~/x.rc" {
		t.Errorf("%+v", cfg)
	}
}
