package provision

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/provision/provisiontest"
	"github.com/scalehook/scalehook/internal/testenv"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// ours is an IPv4 address of this machine on a network with room for a neighbour, and
// a neighbour's, who need not be there: no packet is sent.
func ours(t *testing.T) (address, neighbour netip.Addr) {
	t.Helper()
	testenv.Need(t, testenv.Requirement(func() error {
		all, err := net.InterfaceAddrs()
		if err != nil {
			return err
		}
		for _, one := range all {
			p, err := netip.ParsePrefix(one.String())
			if err != nil || !p.Addr().Is4() || p.Addr().IsLoopback() || p.Bits() > 29 {
				continue
			}
			address, neighbour = p.Addr(), p.Masked().Addr().Next()
			if neighbour == address {
				neighbour = neighbour.Next()
			}
			return nil
		}
		return errors.New("this machine has no network but loopback")
	}))
	return address, neighbour
}

// TestHostIsTheAddressTowardsTheCloud has "host" found by the machine's own routes: by
// the external network's gateway, whether the router or the floating IP names it.
func TestHostIsTheAddressTowardsTheCloud(t *testing.T) {
	address, gateway := ours(t)
	const rules = `security_group: {name: sg, rules: [{protocol: tcp, port: 22, from: host}]}
service: {port: 8080, balancer: host}
`
	for _, tt := range []struct {
		name, file string
		gateway    string // of the external network
		want       string
	}{
		{
			"by the router's external network",
			"network:\n  name: lab-net\n  subnet: {cidr: 192.168.100.0/24}\n  router: {name: lab-router, external: external}\n" + rules, gateway.String(),
			address.String() + "/32",
		},
		{
			"by the floating IP's network",
			"network: {name: lab-net}\nserver: {name: test-vm, image: cirros, flavor: m1.tiny}\nfloating_ip: {network: external}\n" + rules, gateway.String(),
			address.String() + "/32",
		},
		{
			// The identity service is at a loopback address here, which no guest could
			// come from.
			"loopback is no address towards a cloud",
			"network: {name: lab-net}\n" + rules, gateway.String(), "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := provisiontest.New(t)
			c.Objects["subnets"][0]["gateway_ip"] = tt.gateway
			c.Add("security_groups", provisiontest.Object{"id": "sg-1", "name": "sg", "project_id": provisiontest.Project})
			plan, err := opened(t, c.Text(t, tt.file)).Plan(t.Context())
			if tt.want == "" {
				if err == nil || !strings.Contains(err.Error(), "cannot be told") {
					t.Errorf("err = %v, want that the address cannot be told", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var opens []string
			for _, it := range plan.Items {
				if it.Kind == KindGroup {
					opens = it.Details
				}
			}
			for _, port := range []int{22, 8080} {
				if want := fmt.Sprintf("open tcp port %d from %s", port, tt.want); !slices.Contains(opens, want) {
					t.Errorf("the plan of the group is %q, want %q", opens, want)
				}
			}
		})
	}
}
