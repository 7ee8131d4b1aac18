package haproxy

import (
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/fault"
)

// passPoint passes a fault point beside a command that changes something, such as
// "haproxy.set server state drain.before". It does nothing but in a binary that is
// built to be killed.
func passPoint(words []string, side string) {
	if !fault.Enabled {
		return
	}
	path := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, "/") })
	name := slices.Clone(words)
	switch {
	case path >= 0 && words[0] == "add":
		name = name[:path] // the rest are the server's address and options
	case path >= 0:
		name = slices.Delete(name, path, path+1)
	}
	fault.Point("haproxy." + strings.Join(name, " ") + "." + side)
}
