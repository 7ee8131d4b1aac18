package cloud

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"go.yaml.in/yaml/v3"
)

// login is what is needed to talk to a cloud.
type login struct {
	name   string // for messages: the cloud's name, or where the credentials are from
	auth   gophercloud.AuthOptions
	region string
	face   gophercloud.Availability
	tls    *tls.Config
}

// login finds the credentials.
func (c Config) login() (login, error) {
	var l login
	var err error
	if c.RCFile != "" {
		var vars map[string]string
		if vars, err = readRCFile(home(c.RCFile)); err == nil {
			l, err = c.fromVars(c.RCFile, func(name string) string { return vars[name] })
		}
	} else if name := cmp.Or(c.Cloud, os.Getenv("OS_CLOUD")); name != "" || c.CloudsFile != "" {
		l, err = c.fromClouds(name)
	} else {
		l, err = c.fromVars("the environment", os.Getenv)
	}
	if err != nil {
		return l, err
	}
	if err := l.complete(); err != nil {
		return l, fmt.Errorf("%s: %w", l.name, err)
	}
	return l, nil
}

// cloudsFiles are where clouds.yaml may lie, in the order of the openstack
// command.
func (c Config) cloudsFiles() []string {
	if c.CloudsFile != "" {
		return []string{home(c.CloudsFile)}
	}
	if file := os.Getenv("OS_CLIENT_CONFIG_FILE"); file != "" {
		return []string{file}
	}
	files := []string{"clouds.yaml"}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "openstack", "clouds.yaml"))
	}
	return append(files, "/etc/openstack/clouds.yaml")
}

// readClouds returns the first clouds.yaml there is and the names in it.
func (c Config) readClouds() (file string, names []string, err error) {
	all := c.cloudsFiles()
	for _, file := range all {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return file, nil, fmt.Errorf("clouds.yaml: %w", err)
		}
		var content struct {
			Clouds map[string]any `yaml:"clouds"`
		}
		if err := yaml.Unmarshal(text, &content); err != nil {
			return file, nil, fmt.Errorf("read %s: %w", file, err)
		}
		for name := range content.Clouds {
			names = append(names, name)
		}
		slices.Sort(names)
		return file, names, nil
	}
	return "", nil, fmt.Errorf("no clouds.yaml: looked for %s", strings.Join(all, ", "))
}

func (c Config) fromClouds(name string) (login, error) {
	file, names, err := c.readClouds()
	switch {
	case err != nil && name != "":
		return login{}, fmt.Errorf("cloud %q: %w", name, err)
	case err != nil:
		return login{}, err
	case name == "" && len(names) == 1:
		name = names[0]
	case name == "":
		return login{}, fmt.Errorf("clouds_file %s: say which cloud of it is meant: %s", file, listed(names))
	case !slices.Contains(names, name):
		return login{}, fmt.Errorf("%s: %w", file, NotThere("cloud", name, names))
	}
	opts := []clouds.ParseOption{clouds.WithCloudName(name), clouds.WithLocations(file)}
	if c.CAFile != "" {
		opts = append(opts, clouds.WithCACertPath(home(c.CAFile)))
	}
	if c.Verify != nil {
		opts = append(opts, clouds.WithInsecure(!*c.Verify))
	}
	if c.Region != "" {
		opts = append(opts, clouds.WithRegion(c.Region))
	}
	if c.Interface != "" {
		opts = append(opts, clouds.WithEndpointType(c.Interface))
	}
	auth, endpoint, secure, err := clouds.Parse(opts...)
	if err != nil {
		return login{}, fmt.Errorf("cloud %q of %s: %w", name, file, err)
	}
	return login{name: "cloud " + strconv.Quote(name), auth: auth, region: endpoint.Region, face: endpoint.Availability, tls: secure}, nil
}

// fromVars reads the variables that the openstack command knows.
func (c Config) fromVars(from string, get func(string) string) (login, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if value := get(name); value != "" {
				return value
			}
		}
		return ""
	}
	l := login{name: from, region: cmp.Or(c.Region, get("OS_REGION_NAME")), tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	if get("OS_AUTH_URL") == "" {
		hint := ""
		if file, names, err := c.readClouds(); err == nil && c.RCFile == "" {
			hint = fmt.Sprintf("; %s has %s", file, listed(names))
		}
		return l, fmt.Errorf("%s: OS_AUTH_URL is not set: name a cloud of clouds.yaml, or set OS_CLOUD or the variables of an rc file%s", from, hint)
	}
	l.auth = gophercloud.AuthOptions{
		IdentityEndpoint:            get("OS_AUTH_URL"),
		Username:                    get("OS_USERNAME"),
		UserID:                      get("OS_USER_ID"),
		Password:                    get("OS_PASSWORD"),
		DomainID:                    first("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID"),
		DomainName:                  first("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME"),
		TenantID:                    first("OS_PROJECT_ID", "OS_TENANT_ID"),
		TenantName:                  first("OS_PROJECT_NAME", "OS_TENANT_NAME"),
		TokenID:                     get("OS_TOKEN"),
		ApplicationCredentialID:     get("OS_APPLICATION_CREDENTIAL_ID"),
		ApplicationCredentialName:   get("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: get("OS_APPLICATION_CREDENTIAL_SECRET"),
	}
	switch {
	case l.auth.TenantID != "":
		l.auth.Scope = &gophercloud.AuthScope{ProjectID: l.auth.TenantID}
	case l.auth.TenantName != "":
		l.auth.Scope = &gophercloud.AuthScope{
			ProjectName: l.auth.TenantName,
			DomainID:    first("OS_PROJECT_DOMAIN_ID", "OS_DOMAIN_ID"),
			DomainName:  first("OS_PROJECT_DOMAIN_NAME", "OS_DOMAIN_NAME"),
		}
	}
	face := cmp.Or(c.Interface, first("OS_INTERFACE", "OS_ENDPOINT_TYPE"))
	ok := false
	if l.face, ok = availability(face); !ok {
		return l, fmt.Errorf("%s: OS_INTERFACE %q: use one of public, internal, admin", from, face)
	}
	return l, c.secure(&l, get)
}

// secure sets what certificates are accepted and shown.
func (c Config) secure(l *login, get func(string) string) error {
	insecure, _ := strconv.ParseBool(get("OS_INSECURE"))
	if c.Verify != nil {
		insecure = !*c.Verify
	}
	l.tls.InsecureSkipVerify = insecure // the operator's own wish, and there is a warning
	if file := home(cmp.Or(c.CAFile, get("OS_CACERT"))); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("ca_file: %w", err)
		}
		l.tls.RootCAs = x509.NewCertPool()
		if !l.tls.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("ca_file %s: has no certificate in PEM", file)
		}
	}
	cert, key := home(get("OS_CERT")), home(get("OS_KEY"))
	if cert == "" && key == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("OS_CERT and OS_KEY: %w", err)
	}
	l.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// complete fills in what the openstack command takes for granted, and reports what
// is missing before anything is contacted.
func (l *login) complete() error {
	a := &l.auth
	if a.IdentityEndpoint == "" {
		return errors.New("auth_url is missing")
	}
	credential := a.ApplicationCredentialID != "" || a.ApplicationCredentialName != ""
	switch {
	case credential:
		if a.ApplicationCredentialSecret == "" {
			return errors.New("the application credential's secret is missing")
		}
		// It carries its project with it and refuses to be given one.
		a.Scope, a.TenantID, a.TenantName = nil, "", ""
		if a.ApplicationCredentialID != "" {
			a.Username, a.UserID, a.DomainID, a.DomainName = "", "", "", ""
		}
	case a.TokenID != "":
	case a.Username == "" && a.UserID == "":
		return errors.New("username is missing")
	case a.Password == "":
		return errors.New("password is missing")
	case a.Scope == nil:
		return errors.New("project_name or project_id is missing: without a project there is nothing to see")
	}
	const domain = "default"
	if a.UserID != "" || a.TokenID != "" {
		a.DomainID, a.DomainName = "", ""
	} else if a.Username != "" {
		if a.DomainID == "" && a.DomainName == "" {
			a.DomainID = domain
		} else if a.DomainID != "" {
			a.DomainName = ""
		}
	}
	if s := a.Scope; s != nil && s.ProjectName != "" {
		if s.DomainID == "" && s.DomainName == "" {
			s.DomainID = domain
		} else if s.DomainID != "" {
			s.DomainName = ""
		}
	}
	// A token cannot be renewed with itself.
	a.AllowReauth = a.TokenID == "" || a.Password != "" || credential
	return nil
}

func availability(face string) (gophercloud.Availability, bool) {
	switch strings.TrimSuffix(face, "URL") {
	case "", "public":
		return gophercloud.AvailabilityPublic, true
	case "internal":
		return gophercloud.AvailabilityInternal, true
	case "admin":
		return gophercloud.AvailabilityAdmin, true
	}
	return "", false
}

// home puts the home directory for "~/".
func home(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if dir, err := os.UserHomeDir(); err == nil {
			return filepath.Join(dir, rest)
		}
	}
	return path
}
