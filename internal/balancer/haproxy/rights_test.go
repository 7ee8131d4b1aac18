package haproxy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/scaling"
)

// What docs/security.md says of the levels of HAProxy's socket, tried.
func TestTheSocketNeedsLevelAdminAndNothingBeyond(t *testing.T) {
	for level, refused := range map[string]bool{"user": true, "operator": true, "admin": false} {
		t.Run(level, func(t *testing.T) {
			r := newRig(t, rigOptions{level: level})
			g := newGuest(t)
			p := r.pool()
			if _, err := p.Observe(t.Context()); err != nil {
				t.Errorf("observe: %v", err)
			}
			err := p.Apply(t.Context(), allReady([]*guest{g}))
			if denied := err != nil && scaling.ClassOf(err) == scaling.Permanent && strings.Contains(err.Error(), "the socket needs level admin"); denied != refused {
				t.Errorf("apply: error %v", err)
			}
			for _, command := range []string{
				"add server web/x 127.0.0.1:1", "set server web/" + foreign + " state drain", "enable health web/" + foreign,
				"shutdown sessions server web/" + foreign, "del server web/" + foreign,
			} {
				if got := strings.Contains(r.ask(command), "Permission denied"); got != refused {
					t.Errorf("%s: refused %t, want %t", command, got, refused)
				}
			}
			info, err := os.Stat(r.stats)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the socket has the mode %v, %v", info.Mode(), err)
			}
		})
	}
}
