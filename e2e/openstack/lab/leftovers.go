package lab

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// leftoverQuery lists what is there, in every project, as lines of kind, name, id and a
// text in which the prefix is looked for: the name, the description and the values
// of tags. It reads the services' own tables: asking ten of them through the client
// would take twenty seconds. What is deleted stays in some tables, marked so.
const leftoverQuery = `
select 'server', i.display_name, i.uuid,
  concat_ws(' ', i.display_name, (select group_concat(tag separator ' ') from nova.tags where resource_id = i.uuid))
  from nova.instances i where i.deleted = 0
union all select 'server', i.display_name, i.uuid, i.display_name from nova_cell0.instances i where i.deleted = 0
union all select 'key pair', k.name, k.fingerprint, k.name from nova_api.key_pairs k
union all select 'server group', g.name, g.uuid, g.name from nova_api.instance_groups g
union all select 'image', i.name, i.id,
  concat_ws(' ', i.name, (select group_concat(value separator ' ') from glance.image_tags where image_id = i.id and deleted = 0))
  from glance.images i where i.deleted = 0
%s
union all select 'load balancer', l.name, l.id, l.name from octavia.load_balancer l where l.provisioning_status <> 'DELETED'
order by 1, 2, 3`

// neutronQuery is the part for one of Neutron's tables.
const neutronQuery = `union all select '%s', %s, x.id,
  concat_ws(' ', %s, a.description, (select group_concat(tag separator ' ') from neutron.tags where standard_attr_id = a.id))
  from neutron.%s x join neutron.standardattributes a on a.id = x.standard_attr_id`

// Leftovers lists what is in the cloud whose name or description begins with the
// prefix, or that has a tag "KEY=PREFIX...": servers, ports, floating IPs, networks,
// subnets, routers, security groups, key pairs, server groups, images and load
// balancers of all projects, each as "KIND NAME (ID)". There is no volume service.
func (c *Cloud) Leftovers(t testing.TB, prefix string) []string {
	t.Helper()
	left, err := c.leftovers(lasting(t), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func (c *Cloud) leftovers(ctx context.Context, prefix string) ([]string, error) {
	var neutron []string
	for _, table := range []struct{ kind, name, table string }{
		{"port", "x.name", "ports"},
		{"floating IP", "x.floating_ip_address", "floatingips"},
		{"network", "x.name", "networks"},
		{"subnet", "x.name", "subnets"},
		{"router", "x.name", "routers"},
		{"security group", "x.name", "securitygroups"},
	} {
		neutron = append(neutron, fmt.Sprintf(neutronQuery, table.kind, table.name, table.name, table.table))
	}
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	rows, err := c.SQL(ctx, fmt.Sprintf(leftoverQuery, strings.Join(neutron, "\n")))
	if err != nil {
		return nil, fmt.Errorf("look for leftovers: %w", err)
	}
	var out []string
	for row := range strings.SplitSeq(rows, "\n") {
		fields := strings.SplitN(row, "\t", 4)
		if len(fields) < 4 || !mentions(fields[3], prefix) {
			continue
		}
		out = append(out, fmt.Sprintf("%s %s (%s)", fields[0], fields[1], fields[2]))
	}
	return out, nil
}

// mentions reports whether a word of the text begins with the prefix, or does so
// behind the "=" of a tag.
func mentions(text, prefix string) bool {
	for word := range strings.FieldsSeq(text) {
		if _, value, ok := strings.Cut(word, "="); ok && strings.HasPrefix(value, prefix) {
			return true
		}
		if strings.HasPrefix(word, prefix) {
			return true
		}
	}
	return false
}
