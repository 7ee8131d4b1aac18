package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/scalehook/scalehook/internal/scaling"
)

// The microversions that are asked for. Nova's is that of Stein: tags in the
// creating call (2.52), a volume type at boot (2.67), servers in a cell that is
// down told from servers that are gone (2.69), and server groups (2.71).
const (
	computeVersion      = "2.72"
	blockStorageVersion = "3.50"
)

// Cloud is one project of one cloud. It is safe for concurrent use.
type Cloud struct {
	cfg       Config
	login     login
	transport *transport
	turn      chan struct{} // one authenticates at a time

	mu      sync.Mutex
	session *session
}

// session is what an authentication gave. The client renews its token by itself.
type session struct {
	client  *gophercloud.ProviderClient
	catalog []tokens.CatalogEntry
	project tokens.Project
}

// Open finds the credentials of a cloud and contacts nothing. It warns where
// certificates are not verified.
func Open(cfg Config, log *slog.Logger) (*Cloud, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l, err := cfg.login()
	if err != nil {
		return nil, err
	}
	if l.tls != nil && l.tls.InsecureSkipVerify {
		log.Warn("certificates are not verified: whoever is on the way to the cloud can read and change everything; state ca_file instead", "cloud", l.name)
	}
	base := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one, by its documentation
	base.TLSClientConfig = l.tls
	base.MaxIdleConnsPerHost = 16
	base.IdleConnTimeout = 30 * time.Second // before a proxy closes them: a change on a closed one is lost
	return &Cloud{
		cfg: cfg, login: l, turn: make(chan struct{}, 1),
		transport: &transport{base: base, timeout: cmp.Or(cfg.Timeout, DefaultTimeout)},
	}, nil
}

// Name says which cloud it is, for messages.
func (c *Cloud) Name() string { return c.login.name }

// Close closes idle connections. Calls under way go on.
func (c *Cloud) Close() { c.transport.base.CloseIdleConnections() }

// Project returns the project that everything is done in.
func (c *Cloud) Project(ctx context.Context) (id, name string, err error) {
	s, err := c.authenticated(ctx)
	if err != nil {
		return "", "", err
	}
	return s.project.ID, s.project.Name, nil
}

// authenticated returns the session, and makes it if there is none.
func (c *Cloud) authenticated(ctx context.Context) (*session, error) {
	if s := c.current(); s != nil {
		return s, nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, scaling.Errorf(scaling.Temporary, "%s: wait for the authentication: %w", c.login.name, context.Cause(ctx))
	}
	if s := c.current(); s != nil {
		return s, nil
	}
	s, err := c.authenticate(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: authenticate at %s: %w", c.login.name, c.login.auth.IdentityEndpoint, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	return s, nil
}

func (c *Cloud) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

func (c *Cloud) authenticate(ctx context.Context) (*session, error) {
	client, err := openstack.NewClient(c.login.auth.IdentityEndpoint)
	if err != nil {
		return nil, scaling.WithClass(scaling.Permanent, err)
	}
	client.HTTPClient = http.Client{Transport: c.transport}
	client.UserAgent.Prepend("scalehook")
	auth := c.login.auth
	if err := openstack.AuthenticateV3(ctx, client, &auth, gophercloud.EndpointOpts{}); err != nil {
		return nil, authError(err)
	}
	result, ok := client.GetAuthResult().(interface {
		ExtractServiceCatalog() (*tokens.ServiceCatalog, error)
		ExtractProject() (*tokens.Project, error)
	})
	if !ok {
		return nil, scaling.Errorf(scaling.Permanent, "the identity service's answer is not of version 3")
	}
	catalog, err := result.ExtractServiceCatalog()
	if err != nil {
		return nil, scaling.Errorf(scaling.Permanent, "read the catalog: %w", err)
	}
	project, err := result.ExtractProject()
	if err != nil || project == nil {
		return nil, scaling.Errorf(scaling.Permanent, "the token is for no project: state project_name (%w)", cmp.Or(err, errors.New("unscoped")))
	}
	return &session{client: client, catalog: catalog.Entries, project: *project}, nil
}

// authError classifies what the identity service said to a login. None of it means
// that something asked for does not exist.
func authError(err error) error {
	err = Error(err, "log in")
	if code, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		switch {
		case code.Actual == http.StatusUnauthorized:
			return scaling.Errorf(scaling.Permanent, "user name, password, project or credential is wrong: %w", err)
		case code.Actual == http.StatusNotFound:
			return scaling.Errorf(scaling.Permanent, "auth_url leads to no identity service of version 3: %w", err)
		case code.Actual < http.StatusInternalServerError && code.Actual != http.StatusTooManyRequests:
			return scaling.WithClass(scaling.Permanent, err)
		}
	}
	switch scaling.ClassOf(err) {
	case scaling.Permanent:
		return err
	case scaling.Unknown, scaling.Temporary, scaling.Conflict, scaling.Quota, scaling.NotFound:
	}
	// A login changes nothing.
	return scaling.WithClass(scaling.Temporary, err)
}

// Compute returns a client of Nova. It is cheap: ask for one in every operation.
func (c *Cloud) Compute(ctx context.Context) (*gophercloud.ServiceClient, error) {
	s, err := c.service(ctx, Compute, "v2.1/")
	if err == nil {
		s.Microversion = computeVersion
	}
	return s, err
}

// Network returns a client of Neutron.
func (c *Cloud) Network(ctx context.Context) (*gophercloud.ServiceClient, error) {
	return c.service(ctx, Network, "v2.0/")
}

// Image returns a client of Glance.
func (c *Cloud) Image(ctx context.Context) (*gophercloud.ServiceClient, error) {
	return c.service(ctx, Image, "v2/")
}

// BlockStorage returns a client of Cinder, which not every cloud has.
func (c *Cloud) BlockStorage(ctx context.Context) (*gophercloud.ServiceClient, error) {
	s, err := c.service(ctx, BlockStorage, "", "volumev3", "block-store", "volume")
	if err == nil {
		s.Microversion = blockStorageVersion
	}
	return s, err
}

// LoadBalancer returns a client of Octavia, which not every cloud has.
func (c *Cloud) LoadBalancer(ctx context.Context) (*gophercloud.ServiceClient, error) {
	return c.service(ctx, LoadBalancer, "v2.0/")
}

// service returns the client of a service whose resources lie below version.
func (c *Cloud) service(ctx context.Context, kind, version string, aliases ...string) (*gophercloud.ServiceClient, error) {
	s, err := c.authenticated(ctx)
	if err != nil {
		return nil, err
	}
	endpoint := c.cfg.Endpoints[kind]
	if endpoint == "" {
		if endpoint, err = c.endpoint(s.catalog, append([]string{kind}, aliases...)); err != nil {
			return nil, fmt.Errorf("%s: %w", c.login.name, err)
		}
	}
	endpoint = gophercloud.NormalizeURL(endpoint)
	base := endpoint
	// Catalogs have the version in the URL or leave it out, as they like.
	if major, _, _ := strings.Cut(version, "."); version != "" && !strings.Contains(endpoint, "/"+strings.TrimSuffix(major, "/")) {
		base += version
	}
	return &gophercloud.ServiceClient{ProviderClient: s.client, Endpoint: endpoint, ResourceBase: base, Type: kind}, nil
}

// endpoint chooses from the catalog. Unlike gophercloud's own choice it asks no
// endpoint which versions it has: that would be a request without a context.
func (c *Cloud) endpoint(catalog []tokens.CatalogEntry, kinds []string) (string, error) {
	var known, regions, faces, urls []string
	for _, kind := range kinds {
		for _, entry := range catalog {
			known = append(known, entry.Type)
			if entry.Type != kind {
				continue
			}
			for _, e := range entry.Endpoints {
				regions = append(regions, cmp.Or(e.RegionID, e.Region))
				if c.login.region != "" && e.Region != c.login.region && e.RegionID != c.login.region {
					continue
				}
				faces = append(faces, e.Interface)
				// "volume" was the type of versions 1 and 2.
				old := strings.Contains(e.URL, "/v1/") || strings.Contains(e.URL, "/v2/")
				if gophercloud.Availability(e.Interface) == c.login.face && (kind != "volume" || !old) {
					urls = append(urls, e.URL)
				}
			}
		}
		if len(urls) > 0 {
			break // what follows are other names of the same service
		}
	}
	several := slices.Clone(regions)
	slices.Sort(several)
	several = slices.Compact(several)
	switch {
	case len(urls) > 0 && c.login.region == "" && len(several) > 1:
		return "", scaling.Errorf(scaling.Permanent, "service %s is in several regions: state region: %s", kinds[0], listed(several))
	case len(urls) > 0:
		return urls[0], nil
	case len(regions) == 0:
		return "", NotThere("service", kinds[0], known)
	case len(faces) == 0:
		return "", fmt.Errorf("service %s: %w", kinds[0], NotThere("region", c.login.region, regions))
	}
	slices.Sort(faces)
	return "", scaling.Errorf(scaling.Permanent, "service %s has no %s endpoint, only %s: state interface", kinds[0], c.login.face, strings.Join(slices.Compact(faces), ", "))
}
