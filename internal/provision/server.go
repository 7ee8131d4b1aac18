package provision

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/firstboot"
)

func keyResource() resource {
	return resource{
		kind:   KindKey,
		wanted: func(f *File) bool { return f.Key != nil },
		name:   func(f *File) string { return f.Key.Name },
		find: func(p *planner) *Object {
			p.key = by(p.world.Keys, func(k Key) bool { return k.Name == p.file.Key.Name })
			if file := p.world.KeyFile; file.Problem != "" {
				p.wrongf("key.private_key", "%s: %s", file.Path, file.Problem)
			}
			if p.key == nil {
				if p.file.Key.PrivateKey == "" {
					have := make([]string, 0, len(p.world.Keys))
					for _, k := range p.world.Keys {
						have = append(have, k.Name)
					}
					p.wrong("key.name", fmt.Errorf("%w; or write private_key, and it is made", cloud.NotThere("key pair", p.file.Key.Name, have)))
				}
				return nil
			}
			return &Object{ID: p.key.Name, Name: p.key.Name}
		},
		owned: func(p *planner, _ Object) bool { return p.mark.ownsKey(*p.key, p.world.Project) },
		compare: func(p *planner, _ *Item) {
			file := p.world.KeyFile
			public, _ := splitKey(p.key.Public)
			switch {
			case p.file.Key.PrivateKey == "" || file.Problem != "":
			case file.Public == "":
				p.wrongf("key.private_key", "the cloud has the key pair %s already, %s, and its private key is not in %s: put it there, or name another key pair", p.key.Name, fingerprint(p.key.Public), file.Path)
			case file.Public != public:
				p.wrongf("key.private_key", "%s does not match the key pair %s: the file has %s, the cloud %s: give the file that belongs to it, or name another key pair", file.Path, p.key.Name, fingerprint(file.Public), fingerprint(p.key.Public))
			}
		},
		make: func(p *planner, it *Item) []step {
			name, path := p.file.Key.Name, p.file.Key.PrivateKey
			if path == "" {
				return nil
			}
			if p.world.KeyFile.Public == "" {
				it.Details = append(it.Details, "make the private key "+path+" (ed25519, mode 0600)", "import its public key")
				return []step{{
					what: "make the private key " + path, touches: []Kind{KindKey},
					do: func(context.Context, *client) error { return makeKeyFile(path, p.mark.comment(p.world.Project)) },
				}}
			}
			it.Details = append(it.Details, "import the public key of "+path)
			return []step{{
				what: "import key pair " + name, touches: []Kind{KindKey},
				do: func(ctx context.Context, c *client) error {
					return c.importKey(ctx, name, p.world.KeyFile.Public+" "+p.mark.comment(p.world.Project))
				},
			}}
		},
	}
}

func serverResource() resource {
	return resource{
		kind:   KindServer,
		wanted: func(f *File) bool { return f.Server != nil },
		name:   func(f *File) string { return f.Server.Name },
		find: func(p *planner) *Object {
			p.server = one(p, "server.name", KindServer, p.world.Servers, p.file.Server.Name)
			p.heirs = p.members(p.file.Server.ScalingGroup)
			if p.server == nil {
				return nil
			}
			p.port = by(p.world.Ports, func(port Port) bool {
				return port.Device == p.server.ID && (p.network == nil || port.Network == p.network.ID)
			})
			return &p.server.Object
		},
		compare: compareServer,
		make: func(p *planner, it *Item) []step {
			if p.replaced() {
				it.Details = append(it.Details, p.handedOver())
				return nil
			}
			p.bootable()
			p.understood()
			s := *p.file.Server
			it.Details = append(it.Details, fmt.Sprintf("make it: image %s, flavor %s", s.Image, s.Flavor))
			return []step{{
				what: "make server " + s.Name, touches: []Kind{KindServer, KindPort, KindFloatingIP},
				do: func(ctx context.Context, c *client) error {
					opts := newServer{
						name: s.Name, image: p.image.ID, flavor: p.flavor.ID, network: p.network.ID, tags: p.mark.tags(),
						configDrive: s.ConfigDrive, deadline: s.BootDeadline,
					}
					if p.group != nil {
						opts.group = p.group.ID
					}
					if p.key != nil {
						opts.key = p.key.Name
					}
					var err error
					if opts.userData, err = p.file.userData(); err != nil {
						return err
					}
					return c.makeServer(ctx, opts)
				},
			}}
		},
	}
}

// members are the servers that carry the mark of one of the owner's scaling groups.
func (p *planner) members(name string) []Server {
	var out []Server
	for _, s := range p.world.Servers {
		if m, ok := cloud.ParseMark(s.Tags); ok && name != "" && m.Group == name && string(m.Owner) == p.mark.owner {
			out = append(out, s)
		}
	}
	return out
}

// replaced reports whether the server was handed over to others of its scaling group.
func (p *planner) replaced() bool { return p.server == nil && len(p.heirs) > 0 }

func (p *planner) handedOver() string {
	return fmt.Sprintf("the scaling group %s has taken over: %s", p.file.Server.ScalingGroup, strings.Join(names(p.heirs), ", "))
}

// heir returns the server of the scaling group that a port belongs to, or nil.
func (p *planner) heir(port string) *Server {
	at := p.world.port(port)
	if at == nil {
		return nil
	}
	return by(p.heirs, func(s Server) bool { return s.ID == at.Device })
}

// userData is what the guest gets for its first boot.
func (f *File) userData() ([]byte, error) {
	s := f.Server
	switch {
	case s.Report:
		return []byte(reportScript(f.Verify.Outbound)), nil
	case s.UserData == "":
		return nil, nil
	}
	text, err := os.ReadFile(f.local(s.UserData))
	if err != nil {
		return nil, fmt.Errorf("read the user data: %w", err)
	}
	return text, nil
}

// understood notes what the image will not make of the user data.
func (p *planner) understood() {
	if p.image == nil {
		return
	}
	text, err := p.file.userData()
	if err != nil {
		return // it was there when the file was read; making the server reports it
	}
	image := firstboot.Image{Name: p.image.Name, Distro: p.image.Properties["os_distro"]}
	if warning := firstboot.Mismatch(image, firstboot.KindOf(string(text))); warning != "" {
		p.plan.Notes = append(p.plan.Notes, "server.user_data: "+warning)
	}
}

func compareServer(p *planner, it *Item) {
	is, s := p.server, p.file.Server
	if !it.Adopted {
		p.understood()
	}
	if is.Status == "ERROR" {
		why := is.Fault
		if why == "" {
			why = "the cloud does not say why"
		}
		// One of ours that never ran holds nothing.
		if !it.Adopted && !is.Launched {
			it.steps = append(it.steps, step{
				what: "remove the server that could not be made (" + why + "), to make it anew", touches: []Kind{KindServer, KindPort, KindFloatingIP},
				do: func(ctx context.Context, c *client) error { return c.removeServer(ctx, is.ID) },
			})
			return
		}
		p.wrongf("server.name", "server %s (%s) is in ERROR (%s): repair or remove it, or name another", is.Name, is.ID, why)
		return
	}
	if is.Status == "BUILD" {
		it.steps = append(it.steps, step{
			what: "wait until it is active", touches: []Kind{KindServer, KindPort, KindFloatingIP},
			do: func(ctx context.Context, c *client) error { return c.awaitActive(ctx, is.ID, s.BootDeadline) },
		})
		return
	}
	if is.Status != "ACTIVE" {
		it.Details = append(it.Details, "its status is "+is.Status)
	}
	if g := group(is.Object); g != "" {
		it.Details = append(it.Details, "it belongs to the scaling group "+g)
	}
	p.compareImage(it)
	if is.Flavor != s.Flavor && (p.flavor == nil || is.Flavor != p.flavor.Name) {
		p.wrongf("server.flavor", "server %s (%s) has the flavor %s: write that, resize it, or name another server", is.Name, is.ID, is.Flavor)
	}
	if k := p.file.Key; k != nil && is.Key != k.Name {
		has := "no key pair"
		if is.Key != "" {
			has = "the key pair " + is.Key
		}
		p.wrongf("key.name", "server %s (%s) was made with %s, which cannot be changed: write that, or name another server", is.Name, is.ID, has)
	}
	if p.port == nil {
		p.wrongf("network.name", "server %s (%s) has no port on network %s: attach one (openstack server add network), or name another server", is.Name, is.ID, p.file.Network.Name)
		return
	}
	if p.group != nil && !slices.Contains(p.port.Groups, p.group.ID) {
		port, groups := p.port.ID, append(slices.Clone(p.port.Groups), p.group.ID)
		it.steps = append(it.steps, step{
			what: "add the security group " + p.group.Name + " to its port", touches: []Kind{KindPort, KindServer},
			do: func(ctx context.Context, c *client) error { return c.setGroups(ctx, port, groups) },
		})
	}
}

func (p *planner) compareImage(it *Item) {
	is := p.server
	if p.image == nil || is.Image == p.image.ID {
		return
	}
	from := by(p.world.Images, func(i Image) bool { return i.ID == is.Image })
	switch {
	case is.Image == "":
		it.Details = append(it.Details, "it boots from a volume; what is on it is not compared with the image")
	case from == nil:
		it.Details = append(it.Details, "the image that it was made of is gone")
	case from.Name == p.image.Name:
		it.Details = append(it.Details, "there is a newer image "+from.Name+" than the one that it was made of")
	default:
		p.wrongf("server.image", "server %s (%s) was made of the image %s (%s): write that, rebuild it, or name another server", is.Name, is.ID, from.Name, from.ID)
	}
}

func addressResource() resource {
	const at = "floating_ip"
	return resource{
		kind:   KindFloatingIP,
		wanted: func(f *File) bool { return f.FloatingIP != nil },
		name: func(f *File) string {
			if a := f.FloatingIP.Address; a.IsValid() {
				return a.String()
			}
			return "of " + f.Server.Name
		},
		find: func(p *planner) *Object {
			all := mine(p.world, p.world.FloatingIPs)
			var at, owned []*FloatingIP
			for i := range all {
				a := &all[i]
				switch {
				case p.file.FloatingIP.Address.IsValid():
					if a.Address == p.file.FloatingIP.Address {
						p.address = a
					}
				case p.port != nil && a.Port == p.port.ID:
					at = append(at, a)
				case p.mark.owns(a.Object):
					owned = append(owned, a)
				}
			}
			if p.address == nil {
				p.address = pick(p, at, owned)
			}
			if p.address == nil {
				return nil
			}
			return &p.address.Object
		},
		compare: func(p *planner, it *Item) {
			is := p.address
			it.Name = is.Address.String()
			if p.pool != nil && is.Network != p.pool.ID {
				p.wrongf(at+".network", "floating IP %s (%s) is not of the network %s: write its own network, or another address", is.Address, is.ID, p.pool.Name)
				return
			}
			switch {
			case p.port != nil && is.Port == p.port.ID:
			case p.heir(is.Port) != nil:
				it.Details = append(it.Details, "it leads to "+p.heir(is.Port).Name+" of the scaling group "+p.file.Server.ScalingGroup)
			case p.replaced() && is.Port == "":
				it.Details = append(it.Details, "it leads nowhere since its server was handed over; see --cleanup")
			case is.Port != "":
				p.wrongf(at, "floating IP %s (%s) is in use elsewhere, by %s: take it away there, write another address, or leave floating_ip out", is.Address, is.ID, p.world.holder(is.Port))
			default:
				it.steps = append(it.steps, step{
					what: "give the floating IP " + is.Address.String() + " to the server", touches: []Kind{KindFloatingIP},
					do: func(ctx context.Context, c *client) error { return c.associate(ctx, is.ID, p.port.ID) },
				})
			}
		},
		make: func(p *planner, it *Item) []step {
			spec := *p.file.FloatingIP
			if p.replaced() {
				it.Details = append(it.Details, p.handedOver())
				return nil
			}
			it.Details = append(it.Details, "make one of the network "+spec.Network+" and give it to the server")
			return []step{{
				what: "make a floating IP of " + spec.Network, touches: []Kind{KindFloatingIP},
				do: func(ctx context.Context, c *client) error {
					return c.makeAddress(ctx, p.pool.ID, spec.Address, p.port.ID, p.mark.text())
				},
			}}
		},
		mark: tagging(KindFloatingIP, collAddress),
	}
}

// pick chooses the server's floating IP: the one at its port, else one made for this
// file that is free, else one made for this file.
func pick(p *planner, at, owned []*FloatingIP) *FloatingIP {
	if len(at) > 0 {
		return at[0]
	}
	slices.SortFunc(owned, func(a, b *FloatingIP) int { return strings.Compare(a.ID, b.ID) })
	var chosen *FloatingIP
	for _, a := range owned {
		if chosen == nil || chosen.Port != "" && a.Port == "" {
			chosen = a
		}
	}
	if len(owned) > 1 {
		p.plan.Notes = append(p.plan.Notes, fmt.Sprintf("%d floating IPs were made for this file; %s is used; see --cleanup", len(owned), chosen.Address))
	}
	return chosen
}

// lookUp finds what the file refers to and does not make.
func (p *planner) lookUp() {
	f := p.file
	if n := f.Network; n != nil && n.Router != nil {
		p.outside = p.external("network.router.external", n.Router.External)
	}
	p.overlaps()
	if f.FloatingIP != nil {
		p.pool = p.outside
		if p.outside == nil || f.FloatingIP.Network != f.Network.Router.External {
			p.pool = p.external("floating_ip.network", f.FloatingIP.Network)
		}
		p.reserved()
	}
	if f.Server != nil {
		p.flavor = one(p, "server.flavor", "flavor", p.world.Flavors, f.Server.Flavor)
		p.image = p.newestImage()
	}
}

// reserved says whether the address that the file asks for can be had.
func (p *planner) reserved() {
	want := p.file.FloatingIP.Address
	if !want.IsValid() {
		return
	}
	for _, a := range p.world.FloatingIPs {
		if a.Address == want && a.Project != "" && a.Project != p.world.Project {
			p.wrongf("floating_ip.address", "floating IP %s (%s) belongs to another project (%s): write one of this project's, or leave address out", a.Address, a.ID, a.Project)
		}
	}
}

// newestImage finds the image: by id, else the newest of the name, one that can be
// booted before those that cannot.
func (p *planner) newestImage() *Image {
	name := p.file.Server.Image
	var best *Image
	for i := range p.world.Images {
		image := &p.world.Images[i]
		if image.ID == name {
			return image
		}
		if image.Name != name {
			continue
		}
		ready, bestReady := image.Status == "active", best != nil && best.Status == "active"
		if best == nil || ready && !bestReady || ready == bestReady && image.Created.After(best.Created) {
			best = image
		}
	}
	return best
}

// bootable reports what is missing for a server to be made.
func (p *planner) bootable() {
	s := p.file.Server
	if p.flavor == nil {
		p.wrong("server.flavor", cloud.NotThere("flavor", s.Flavor, names(p.world.Flavors)))
	}
	switch {
	case p.image == nil:
		p.wrong("server.image", cloud.NotThere("image", s.Image, names(p.world.Images)))
	case p.image.Status != "active":
		p.wrongf("server.image", "image %s (%s) is %s: wait until it is active, or name another", p.image.Name, p.image.ID, p.image.Status)
	}
}
