package haproxy

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// namer makes the names of servers and tells ours from foreign ones. The owner
// is hashed so that any owner fits into a name.
type namer struct{ prefix string }

func newNamer(owner string) namer {
	sum := sha256.Sum256([]byte(owner))
	return namer{prefix: "sh-" + hex.EncodeToString(sum[:3]) + "-"}
}

func (n namer) server(id string) string { return n.prefix + id }

// id returns the instance's id, or ok false for a foreign server.
func (n namer) id(server string) (id string, ok bool) {
	id, ok = strings.CutPrefix(server, n.prefix)
	return id, ok && id != ""
}
