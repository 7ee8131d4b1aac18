package octavia

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/scalehook/scalehook/internal/cloud"
)

// namer makes names and tags, and tells ours from foreign ones.
type namer struct {
	owner  string
	prefix string // of members
}

// newNamer hashes the owner so that any owner fits into a member's name.
func newNamer(owner string) namer {
	sum := sha256.Sum256([]byte(owner))
	return namer{owner: owner, prefix: "sh-" + hex.EncodeToString(sum[:3]) + "-"}
}

// member is the name of an instance's member. Names alone tell whose a member is,
// as in every balancer: a member that somebody renames is somebody's from then on.
func (n namer) member(id string) string { return n.prefix + id }

// id returns the instance's id; empty for a foreign member.
func (n namer) id(member string) string {
	if !strings.HasPrefix(member, n.prefix) {
		return ""
	}
	return member[len(n.prefix):]
}

// object is the name of a group's load balancer, listener, pool and monitor.
func (n namer) object(group string) string { return n.owner + "-" + group }

// text is what people read beside the name.
func (n namer) text(group string) string {
	return "made by scalehook for group " + group + " of " + n.owner
}

// tags mark what is made for a group, and for an instance of it.
func (n namer) tags(group, id string) []string { return cloud.Tags(cloud.Owner(n.owner), group, id) }

// made reports whether an object's tags say that it was made for the group.
func (n namer) made(tags []string, group string) bool {
	m, ok := cloud.ParseMark(tags)
	return ok && m.Owner == cloud.Owner(n.owner) && m.Group == group && m.ID == ""
}
