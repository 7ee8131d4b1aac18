package provision

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/scalehook/scalehook/internal/cloud"
)

// nowhere is the id of nothing: asking for something with it is refused by the rights
// or, if those allow it, because there is no such thing.
const nowhere = "00000000-0000-4000-8000-000000000000"

// doctor collects what it finds.
type doctor struct {
	p      *Provisioner
	report []Check
}

func (d *doctor) ok(what, format string, args ...any) {
	d.report = append(d.report, Check{What: what, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (d *doctor) bad(what, format string, args ...any) {
	d.report = append(d.report, Check{What: what, Detail: fmt.Sprintf(format, args...)})
}

// Doctor looks whether the cloud has what scalehook needs, and whether the
// credentials may use it. It changes nothing.
func (p *Provisioner) Doctor(ctx context.Context) []Check {
	d := &doctor{p: p}
	if !d.services(ctx) {
		return d.report
	}
	d.rights(ctx)
	w, err := p.c.look(ctx, p.file)
	if err != nil {
		d.bad("listing", "%v", err)
		return d.report
	}
	d.quotas(w)
	d.things(w)
	return d.report
}

// services reports whether those that everything needs are there.
func (d *doctor) services(ctx context.Context) bool {
	c := d.p.c.cloud
	place, err := d.p.c.describe(ctx)
	if err != nil {
		d.bad("login", "%v", err)
		return false
	}
	d.ok("login", "%s", place)
	whole := true
	for _, s := range []struct {
		name, path string
		client     func(context.Context) (*gophercloud.ServiceClient, error)
		without    string // what is lost; empty if nothing works
	}{
		{"compute (Nova)", "limits", c.Compute, ""},
		{"network (Neutron)", "extensions", c.Network, ""},
		{"image (Glance)", "images?limit=1", c.Image, ""},
		{"block storage (Cinder)", "limits", c.BlockStorage, "servers boot from images only"},
		{"load balancer (Octavia)", "lbaas/loadbalancers?limit=1", c.LoadBalancer, "HAProxy balances"},
	} {
		what := "service " + s.name
		api, err := s.client(ctx)
		if err == nil {
			var resp *http.Response
			resp, err = api.Get(ctx, api.ServiceURL(s.path), nil, &gophercloud.RequestOpts{OkCodes: []int{http.StatusOK}, KeepResponseBody: true})
			if err == nil {
				err = resp.Body.Close()
			}
			err = cloud.Error(err, "ask it")
		}
		switch {
		case err == nil:
			d.ok(what, "answers")
		case s.without != "":
			d.ok(what, "cannot be used, so %s: %v", s.without, err)
		default:
			d.bad(what, "%v", err)
			whole = false
		}
	}
	return whole
}

// rights asks for what cannot be made, and looks what it is refused for.
func (d *doctor) rights(ctx context.Context) {
	roles := d.roles(ctx)
	if compute, err := d.p.c.cloud.Compute(ctx); err == nil {
		// Nova looks at the rights before it looks for the flavor.
		opts := servers.CreateOpts{Name: "scalehook-doctor", ImageRef: nowhere, FlavorRef: "scalehook-doctor-" + nowhere, Networks: "none"}
		d.right("make a server", roles, servers.Create(ctx, compute, opts, nil).Err)
	}
	network, err := d.p.c.cloud.Network(ctx)
	if err != nil {
		return
	}
	d.right("make a port", roles, ports.Create(ctx, network, ports.CreateOpts{NetworkID: nowhere}).Err)
	d.right("make a floating IP", roles, floatingips.Create(ctx, network, floatingips.CreateOpts{FloatingNetworkID: nowhere}).Err)
}

func (d *doctor) right(what, roles string, err error) {
	what = "right to " + what
	answer, answered := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	switch {
	case !answered:
		d.bad(what, "%v", cloud.Error(err, "try"))
	case answer.Actual == http.StatusForbidden && !strings.Contains(strings.ToLower(string(answer.Body)), "quota"):
		d.bad(what, "refused (%s): give the user the role member in the project", roles)
	case answer.Actual == http.StatusBadRequest, answer.Actual == http.StatusNotFound, answer.Actual == http.StatusForbidden:
		d.ok(what, "%s", roles)
	default:
		d.bad(what, "%v", cloud.Error(err, "try"))
	}
}

func (d *doctor) roles(ctx context.Context) string {
	api, err := d.p.c.cloud.Compute(ctx)
	if err != nil {
		return "roles not known"
	}
	result, ok := api.GetAuthResult().(interface{ ExtractRoles() ([]tokens.Role, error) })
	if !ok {
		return "roles not known"
	}
	list, err := result.ExtractRoles()
	if err != nil {
		return "roles not known"
	}
	var names []string
	for _, r := range list {
		names = append(names, r.Name)
	}
	return "roles " + listed(names)
}

// quotas reports what is left, and what is used up.
func (d *doctor) quotas(w *World) {
	for _, kind := range limited() {
		left, known := w.Room[kind]
		switch what := "quota of kind " + string(kind); {
		case !known:
		case left <= 0:
			d.bad(what, "used up: remove some, or ask for a larger quota")
		default:
			d.ok(what, "%d left", left)
		}
	}
}

// things looks for what the file names, or without one for anything of the kind.
func (d *doctor) things(w *World) {
	f := d.p.file
	var outside, bootable []string
	for _, n := range w.Networks {
		if n.External {
			outside = append(outside, n.Name)
		}
	}
	for _, i := range w.Images {
		if i.Status == statusActive {
			bootable = append(bootable, i.Name)
		}
	}
	d.thing("external network", "", outside, "an administrator makes one: openstack network create --external")
	d.thing("image", "", bootable, "openstack image create --file IMAGE --disk-format qcow2 NAME")
	d.thing("flavor", "", names(w.Flavors), "an administrator makes one: openstack flavor create")
	if f.path == "" {
		return
	}
	p := planned(f, w)
	if f.Server != nil {
		p.plan.problems = problems{file: f}
		p.bootable()
		if err := p.plan.Err(); err == nil {
			d.ok("server of the file", "image %s (%s), flavor %s", p.image.Name, p.image.ID, p.flavor.Name)
		}
		p = planned(f, w)
	}
	if err := p.plan.Err(); err != nil {
		for text := range strings.Lines(err.Error()) {
			d.bad("provisioning file", "%s", strings.TrimSpace(text))
		}
		return
	}
	d.ok("provisioning file", "nothing stands in its way")
}

func (d *doctor) thing(kind, name string, have []string, hint string) {
	switch {
	case len(have) == 0:
		d.bad(kind, "there is none: %s", hint)
	case name != "" && !slices.Contains(have, name):
		d.bad(kind, "%v", cloud.NotThere(kind, name, have))
	default:
		d.ok(kind, "%s", listed(have))
	}
}
