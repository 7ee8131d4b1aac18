package cloud

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/scalehook/scalehook/internal/scaling"
)

// NetworkInfo is a network, and whether it leads outside.
type NetworkInfo struct {
	networks.Network
	external.NetworkExternalExt
}

// traits say of a kind of object what finding by name needs.
type traits[T any] struct {
	kind    string
	id      func(T) string
	name    func(T) string
	project func(T) string // whose it is; nil where all are the project's own
}

var idRE = regexp.MustCompile(`^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$`)

// find returns the one object that name, or an id, stands for. list returns all
// that match a filter: an id, a name, or neither. The project's own come before
// those that others share, and before what only an administrator sees.
func find[T any](ctx context.Context, c *Cloud, t traits[T], name string, list func(id, name string) ([]T, error)) (T, error) {
	var none T
	own, _, err := c.Project(ctx)
	if err != nil {
		return none, err
	}
	var found []T
	if idRE.MatchString(name) {
		if found, err = list(name, ""); err != nil && !Gone(err) {
			return none, listingError(err, "look up %s %q", t.kind, name)
		}
		found = slices.DeleteFunc(found, func(one T) bool { return t.id(one) != name })
	}
	if len(found) == 0 {
		if found, err = list("", name); err != nil {
			return none, listingError(err, "look up %s %q", t.kind, name)
		}
		found = slices.DeleteFunc(found, func(one T) bool { return t.name(one) != name })
	}
	if t.project != nil {
		mine := slices.DeleteFunc(slices.Clone(found), func(one T) bool { return t.project(one) != own })
		if len(mine) > 0 {
			found = mine
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
	default:
		ids := make([]string, len(found))
		for i, one := range found {
			ids[i] = t.id(one)
		}
		return none, Ambiguous(t.kind, name, ids)
	}
	all, err := list("", "")
	if err != nil {
		return none, listingError(err, "list every %s", t.kind)
	}
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = t.name(one)
	}
	return none, NotThere(t.kind, name, names)
}

// pages reads a whole listing.
func pages[T any](ctx context.Context, pager pagination.Pager, extract func(pagination.Page) ([]T, error)) ([]T, error) {
	all, err := pager.AllPages(ctx)
	if err != nil {
		return nil, err
	}
	return extract(all)
}

// listingError is Error for a listing, which never says that an object is gone: a
// service that does not know the listing lacks a feature.
func listingError(err error, format string, args ...any) error {
	err = Error(err, format, args...)
	if scaling.IsNotFound(err) {
		return scaling.WithClass(scaling.Permanent, err)
	}
	return err
}

func extractNetworks(p pagination.Page) ([]NetworkInfo, error) {
	var all []NetworkInfo
	err := networks.ExtractNetworksInto(p, &all)
	return all, err
}

func networkTraits() traits[NetworkInfo] {
	return traits[NetworkInfo]{
		kind:    "network",
		id:      func(n NetworkInfo) string { return n.ID },
		name:    func(n NetworkInfo) string { return n.Name },
		project: func(n NetworkInfo) string { return n.ProjectID },
	}
}

// FindNetwork returns the network of that name or id.
func (c *Cloud) FindNetwork(ctx context.Context, name string) (NetworkInfo, error) {
	client, err := c.Network(ctx)
	if err != nil {
		return NetworkInfo{}, err
	}
	return find(ctx, c, networkTraits(), name, func(id, name string) ([]NetworkInfo, error) {
		return pages(ctx, networks.List(client, networks.ListOpts{ID: id, Name: name}), extractNetworks)
	})
}

// FindExternalNetwork returns the network that floating IPs come from; with an
// empty name the only one there is.
func (c *Cloud) FindExternalNetwork(ctx context.Context, name string) (NetworkInfo, error) {
	client, err := c.Network(ctx)
	if err != nil {
		return NetworkInfo{}, err
	}
	yes := true
	list := func(id, name string) ([]NetworkInfo, error) {
		opts := external.ListOptsExt{ListOptsBuilder: networks.ListOpts{ID: id, Name: name}, External: &yes}
		return pages(ctx, networks.List(client, opts), extractNetworks)
	}
	t := networkTraits()
	t.kind = "external network"
	if name != "" {
		return find(ctx, c, t, name, list)
	}
	all, err := list("", "")
	switch {
	case err != nil:
		return NetworkInfo{}, listingError(err, "list the external networks")
	case len(all) == 0:
		return NetworkInfo{}, scaling.Errorf(scaling.Permanent, "there is no external network that this project may use")
	case len(all) > 1:
		names := make([]string, len(all))
		for i, n := range all {
			names[i] = n.Name
		}
		slices.Sort(names)
		return NetworkInfo{}, scaling.Errorf(scaling.Permanent, "there are several external networks: state which: %s", listed(names))
	}
	return all[0], nil
}

// FindSubnet returns the subnet of that name or id.
func (c *Cloud) FindSubnet(ctx context.Context, name string) (subnets.Subnet, error) {
	client, err := c.Network(ctx)
	if err != nil {
		return subnets.Subnet{}, err
	}
	t := traits[subnets.Subnet]{
		kind:    "subnet",
		id:      func(s subnets.Subnet) string { return s.ID },
		name:    func(s subnets.Subnet) string { return s.Name },
		project: func(s subnets.Subnet) string { return s.ProjectID },
	}
	return find(ctx, c, t, name, func(id, name string) ([]subnets.Subnet, error) {
		return pages(ctx, subnets.List(client, subnets.ListOpts{ID: id, Name: name}), subnets.ExtractSubnets)
	})
}

// FindRouter returns the router of that name or id.
func (c *Cloud) FindRouter(ctx context.Context, name string) (routers.Router, error) {
	client, err := c.Network(ctx)
	if err != nil {
		return routers.Router{}, err
	}
	t := traits[routers.Router]{
		kind:    "router",
		id:      func(r routers.Router) string { return r.ID },
		name:    func(r routers.Router) string { return r.Name },
		project: func(r routers.Router) string { return r.ProjectID },
	}
	return find(ctx, c, t, name, func(id, name string) ([]routers.Router, error) {
		return pages(ctx, routers.List(client, routers.ListOpts{ID: id, Name: name}), routers.ExtractRouters)
	})
}

// FindSecurityGroup returns the security group of that name or id.
func (c *Cloud) FindSecurityGroup(ctx context.Context, name string) (groups.SecGroup, error) {
	client, err := c.Network(ctx)
	if err != nil {
		return groups.SecGroup{}, err
	}
	t := traits[groups.SecGroup]{
		kind:    "security group",
		id:      func(g groups.SecGroup) string { return g.ID },
		name:    func(g groups.SecGroup) string { return g.Name },
		project: func(g groups.SecGroup) string { return g.ProjectID },
	}
	return find(ctx, c, t, name, func(id, name string) ([]groups.SecGroup, error) {
		return pages(ctx, groups.List(client, groups.ListOpts{ID: id, Name: name}), groups.ExtractGroups)
	})
}

// FindFloatingIP returns the project's floating IP of that address or id.
func (c *Cloud) FindFloatingIP(ctx context.Context, name string) (floatingips.FloatingIP, error) {
	client, err := c.Network(ctx)
	if err != nil {
		return floatingips.FloatingIP{}, err
	}
	t := traits[floatingips.FloatingIP]{
		kind:    "floating IP",
		id:      func(f floatingips.FloatingIP) string { return f.ID },
		name:    func(f floatingips.FloatingIP) string { return f.FloatingIP },
		project: func(f floatingips.FloatingIP) string { return f.ProjectID },
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		name = ip.String()
	}
	own, _, err := c.Project(ctx)
	if err != nil {
		return floatingips.FloatingIP{}, err
	}
	return find(ctx, c, t, name, func(id, name string) ([]floatingips.FloatingIP, error) {
		// An administrator sees those of all projects, and may even move them.
		return pages(ctx, floatingips.List(client, floatingips.ListOpts{ID: id, FloatingIP: name, ProjectID: own}), floatingips.ExtractFloatingIPs)
	})
}

// FindFlavor returns the flavor of that name or id.
func (c *Cloud) FindFlavor(ctx context.Context, name string) (flavors.Flavor, error) {
	client, err := c.Compute(ctx)
	if err != nil {
		return flavors.Flavor{}, err
	}
	all, err := pages(ctx, flavors.ListDetail(client, nil), flavors.ExtractFlavors)
	if err != nil {
		return flavors.Flavor{}, listingError(err, "look up flavor %q", name)
	}
	names := make([]string, len(all))
	// Names of flavors are unique, and ids may be any text: a name comes first.
	for i, f := range all {
		names[i] = f.Name
		if f.Name == name {
			return f, nil
		}
	}
	for _, f := range all {
		if f.ID == name {
			return f, nil
		}
	}
	return flavors.Flavor{}, NotThere("flavor", name, names)
}

// FindKeyPair returns the user's key pair of that name.
func (c *Cloud) FindKeyPair(ctx context.Context, name string) (keypairs.KeyPair, error) {
	client, err := c.Compute(ctx)
	if err != nil {
		return keypairs.KeyPair{}, err
	}
	all, err := pages(ctx, keypairs.List(client, nil), keypairs.ExtractKeyPairs)
	if err != nil {
		return keypairs.KeyPair{}, listingError(err, "look up key pair %q", name)
	}
	names := make([]string, len(all))
	for i, k := range all {
		names[i] = k.Name
		if k.Name == name {
			return k, nil
		}
	}
	return keypairs.KeyPair{}, NotThere("key pair", name, names)
}

// FindServerGroup returns the server group of that name or id.
func (c *Cloud) FindServerGroup(ctx context.Context, name string) (servergroups.ServerGroup, error) {
	client, err := c.Compute(ctx)
	if err != nil {
		return servergroups.ServerGroup{}, err
	}
	t := traits[servergroups.ServerGroup]{
		kind: "server group",
		id:   func(g servergroups.ServerGroup) string { return g.ID },
		name: func(g servergroups.ServerGroup) string { return g.Name },
	}
	return find(ctx, c, t, name, func(string, string) ([]servergroups.ServerGroup, error) {
		return pages(ctx, servergroups.List(client, nil), servergroups.ExtractServerGroups)
	})
}

// ServersCalled returns the project's servers of exactly that name. Nova lets any
// number of them share one.
func (c *Cloud) ServersCalled(ctx context.Context, name string) ([]servers.Server, error) {
	client, err := c.Compute(ctx)
	if err != nil {
		return nil, err
	}
	// Nova takes the name for a regular expression.
	all, err := pages(ctx, servers.List(client, servers.ListOpts{Name: "^" + regexp.QuoteMeta(name) + "$"}), servers.ExtractServers)
	if err != nil {
		return nil, listingError(err, "look for servers called %q", name)
	}
	return slices.DeleteFunc(all, func(s servers.Server) bool { return s.Name != name }), nil
}

// FindServer returns the project's only server of that name or id.
func (c *Cloud) FindServer(ctx context.Context, name string) (servers.Server, error) {
	client, err := c.Compute(ctx)
	if err != nil {
		return servers.Server{}, err
	}
	t := traits[servers.Server]{
		kind: "server",
		id:   func(s servers.Server) string { return s.ID },
		name: func(s servers.Server) string { return s.Name },
	}
	return find(ctx, c, t, name, func(id, name string) ([]servers.Server, error) {
		switch {
		case id != "":
			s, err := servers.Get(ctx, client, id).Extract()
			if err != nil {
				return nil, err
			}
			return []servers.Server{*s}, nil
		case name != "":
			return c.ServersCalled(ctx, name)
		}
		return pages(ctx, servers.ListSimple(client, nil), servers.ExtractServers)
	})
}

// ImageQuery says which image is meant: the newest one that is active, has that
// name or id if one is stated, and all of the properties.
type ImageQuery struct {
	Name       string
	Properties map[string]string
}

func (q ImageQuery) String() string {
	var parts []string
	if q.Name != "" {
		parts = append(parts, q.Name)
	}
	for _, key := range slices.Sorted(maps.Keys(q.Properties)) {
		parts = append(parts, key+"="+q.Properties[key])
	}
	return strings.Join(parts, " ")
}

// ToImageListQuery implements images.ListOptsBuilder.
func (q ImageQuery) ToImageListQuery() (string, error) {
	values := url.Values{}
	if q.Name != "" {
		values.Set("name", q.Name)
	}
	for key, value := range q.Properties {
		values.Set(key, value)
	}
	return "?" + values.Encode(), nil
}

// FindImage returns the newest active image that q asks for.
func (c *Cloud) FindImage(ctx context.Context, q ImageQuery) (images.Image, error) {
	client, err := c.Image(ctx)
	if err != nil {
		return images.Image{}, err
	}
	var found []images.Image
	if idRE.MatchString(q.Name) {
		one, err := images.Get(ctx, client, q.Name).Extract()
		if err != nil && !Gone(err) {
			return images.Image{}, Error(err, "look up image %q", q.Name)
		}
		if err == nil {
			found = append(found, *one)
		}
	}
	if len(found) == 0 {
		if found, err = pages(ctx, images.List(client, q), images.ExtractImages); err != nil {
			return images.Image{}, listingError(err, "look up image %q", q)
		}
		// Glance passes over a property that it does not know to filter by.
		found = slices.DeleteFunc(found, func(i images.Image) bool { return !q.fits(i) })
	}
	if len(found) > 0 {
		return newest(found)
	}
	all, err := pages(ctx, images.List(client, images.ListOpts{}), images.ExtractImages)
	if err != nil {
		return images.Image{}, listingError(err, "list the images")
	}
	names := make([]string, len(all))
	for i, image := range all {
		names[i] = image.Name
	}
	return images.Image{}, NotThere("image", q.String(), names)
}

func (q ImageQuery) fits(i images.Image) bool {
	if q.Name != "" && i.Name != q.Name {
		return false
	}
	for key, value := range q.Properties {
		if fmt.Sprint(i.Properties[key]) != value {
			return false
		}
	}
	return true
}

// newest returns the last one made of those that are active.
func newest(found []images.Image) (images.Image, error) {
	slices.SortFunc(found, func(a, b images.Image) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	for _, i := range found {
		if i.Status == images.ImageStatusActive {
			return i, nil
		}
	}
	i := found[0]
	class := scaling.Permanent
	switch i.Status {
	case images.ImageStatusQueued, images.ImageStatusSaving, images.ImageStatusUploading, images.ImageStatusImporting:
		class = scaling.Temporary // it is being made
	case images.ImageStatusActive, images.ImageStatusDeactivated, images.ImageStatusDeleted, images.ImageStatusKilled, images.ImageStatusPendingDelete:
	}
	return images.Image{}, scaling.Errorf(class, "image %q (%s) is %s, not active", i.Name, i.ID, i.Status)
}

// Pages reads a whole listing and says what it was for if that fails.
func Pages[T any](ctx context.Context, pager pagination.Pager, extract func(pagination.Page) ([]T, error), what string, args ...any) ([]T, error) {
	all, err := pages(ctx, pager, extract)
	if err != nil {
		return nil, listingError(err, what, args...)
	}
	return all, nil
}

var _ images.ListOptsBuilder = ImageQuery{}
