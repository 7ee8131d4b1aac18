package provision

import (
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/cloud"
)

// mark is what everything made for one file carries.
type mark struct{ owner, name string }

func (f *File) mark() mark { return mark{f.Owner, f.Name} }

// The tags of the mark, and the one that says that a router's gateway is ours and
// not the router.
const (
	tagOwner     = "scalehook-owner="
	tagProvision = "scalehook-provision="
	tagGateway   = "scalehook-gateway="
)

// The properties of a snapshot. Servers that boot from a snapshot inherit its
// properties, and so do the snapshots that somebody makes of those: the mark counts
// only together with the server that Nova says it was made of, and its own name.
const (
	propOwner     = "scalehook_owner"
	propProvision = "scalehook_provision"
	propGroup     = "scalehook_group"
	propServer    = "scalehook_server"
	propName      = "scalehook_name"
	propNova      = "instance_uuid"
)

// text is the description of what the network service makes for us. It is given
// at the creation, where tags can only follow.
func (m mark) text() string { return "made by scalehook for " + m.owner + " " + m.name }

// tags are for filters, and for what has no description.
func (m mark) tags() []string { return []string{tagOwner + m.owner, tagProvision + m.name} }

func (m mark) gateway() string { return tagGateway + m.name }

// owns reports whether the object was made for this file. The owner's tag alone may
// be missing: a scaling group that gives back a server takes it off.
func (m mark) owns(o Object) bool {
	if o.Description == m.text() {
		return true
	}
	owner := tagOwner + m.owner
	return slices.Contains(o.Tags, tagProvision+m.name) && !slices.ContainsFunc(o.Tags, func(tag string) bool {
		return strings.HasPrefix(tag, tagOwner) && tag != owner
	})
}

// missing are the tags that the object lacks.
func (m mark) missing(o Object) []string {
	var out []string
	for _, tag := range m.tags() {
		if !slices.Contains(o.Tags, tag) {
			out = append(out, tag)
		}
	}
	return out
}

// comment is the mark of a key pair, which has neither tags nor a description; the
// cloud keeps the comment of a public key. Key pairs are a user's, so it names the
// project too.
func (m mark) comment(project string) string {
	return "scalehook:" + m.owner + ":" + m.name + ":" + project
}

func (m mark) ownsKey(k Key, project string) bool {
	_, comment := splitKey(k.Public)
	return comment == m.comment(project)
}

// snapshot returns the properties of a snapshot of this name; of is the group of the
// server if it is a group's.
func (m mark) snapshot(name, server, group string) map[string]string {
	p := map[string]string{propOwner: m.owner, propServer: server, propName: name, propProvision: m.name}
	if group != "" {
		p[propGroup] = group
		delete(p, propProvision)
	}
	return p
}

// ownsSnapshot reports whether the image is a snapshot that was made for this file,
// or with a group, for that group.
func (m mark) ownsSnapshot(i Image, group string) bool {
	p := i.Properties
	return p[propOwner] == m.owner && p[propName] == i.Name && p[propServer] != "" && p[propServer] == p[propNova] &&
		(group == "" && p[propProvision] == m.name && p[propGroup] == "" || group != "" && p[propGroup] == group)
}

// group is the scaling group that has the object, if one has.
func group(o Object) string {
	m, _ := cloud.ParseMark(o.Tags)
	return m.Group
}
