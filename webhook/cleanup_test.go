package webhook_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// cleaner stands for the engine's: it takes every id but "no", and "snapshot" is
// removed at once.
type cleaner struct {
	err   error
	asked []scaling.Cleanup
}

func (c *cleaner) Orphans(context.Context) ([]scaling.Orphan, error) {
	return []scaling.Orphan{{
		Kind: scaling.KindVM, Status: scaling.OrphanQuarantined, Provider: "kvm", Group: "web", ID: "o1", Name: "stray", UUID: "u1", Power: scaling.PowerRunning,
		Sightings: 3, Member: &scaling.MemberStatus{Server: "sh-o1", State: scaling.MemberReady, Health: scaling.HealthUp, Sessions: 2}, Note: "takes traffic",
	}}, c.err
}

func (c *cleaner) Cleanup(_ context.Context, order scaling.Cleanup) ([]scaling.CleanupResult, error) {
	c.asked = append(c.asked, order)
	var out []scaling.CleanupResult
	for _, id := range order.IDs {
		if id == "no" {
			out = append(out, scaling.CleanupResult{ID: id, Group: "web", Name: "vm-no", Refused: "the group is paused"})
			continue
		}
		if id == "snapshot" {
			out = append(out, scaling.CleanupResult{ID: id, Group: "web", Name: "web-3-copy", Removed: true})
			continue
		}
		out = append(out, scaling.CleanupResult{ID: id, Group: "web", Name: "vm-" + id, Activity: "a-" + id})
	}
	return out, c.err
}

func TestOrphans(t *testing.T) {
	c := &cleaner{}
	opts := options(t, newEngine())
	opts.Cleaner = c
	s := newServer(t, opts)
	w := send(t, s, request{method: "GET", path: "/api/v1/orphans"})
	want := []api.Orphan{{
		Kind: "vm", Status: "quarantined", Provider: "kvm", Group: "web", ID: "o1", Name: "stray", UUID: "u1", Power: "running", Sightings: 3,
		Member: &api.Member{Server: "sh-o1", State: "ready", Health: "up", Sessions: 2}, Note: "takes traffic",
	}}
	if diff := cmp.Diff(want, dataOf[[]api.Orphan](t, w)); w.Code != 200 || diff != "" {
		t.Errorf("%d (-want +got):\n%s", w.Code, diff)
	}
}

func TestCleanup(t *testing.T) {
	for _, tt := range []struct {
		name, token, body string
		code              int
		says              string
		want              *scaling.Cleanup
	}{
		{"what was shown is what is ordered", operatorToken, `{"ids":["o1","no"],"serving":true}`, 202, `"refused":"the group is paused"`, &scaling.Cleanup{IDs: []string{"o1", "no"}, Serving: true, By: "ops@192.0.2.1"}},
		{"nothing that was taken is a refusal", operatorToken, `{"ids":["no"],"group":"web"}`, 409, "vm-no: the group is paused", &scaling.Cleanup{IDs: []string{"no"}, Groups: []string{"web"}, By: "ops@192.0.2.1"}},
		{"what is removed at once is no refusal", operatorToken, `{"ids":["snapshot"]}`, 202, `"name":"web-3-copy","removed":true`, &scaling.Cleanup{IDs: []string{"snapshot"}, By: "ops@192.0.2.1"}},
		{"a token limited to groups reaches only theirs", dbToken, `{"ids":["o1"]}`, 202, "a-o1", &scaling.Cleanup{IDs: []string{"o1"}, Groups: []string{"db"}, By: "db-ops@192.0.2.1"}},
		{"a token limited to groups cannot name another", dbToken, `{"ids":["o1"],"group":"web"}`, 403, "does not cover", nil},
		{"without an operator's token nothing is removed", alertsToken, `{"ids":["o1"]}`, 403, "operator is needed", nil},
		{"all of them cannot be meant by leaving the ids out", operatorToken, `{}`, 400, "name between 1 and 100", nil},
		{"a misspelt field is no order", operatorToken, `{"ids":["o1"],"serve":true}`, 400, "serve", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &cleaner{}
			opts := options(t, newEngine())
			opts.Cleaner = c
			w := send(t, newServer(t, opts), request{method: "POST", path: "/api/v1/cleanup", token: tt.token, body: tt.body, remote: "192.0.2.1:1"})
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("answered %d %s, want %d and %q", w.Code, w.Body, tt.code, tt.says)
			}
			var want []scaling.Cleanup
			if tt.want != nil {
				want = append(want, *tt.want)
			}
			if diff := cmp.Diff(want, c.asked); diff != "" {
				t.Errorf("ordered (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("an engine that fails is asked again", func(t *testing.T) {
		opts := options(t, newEngine())
		opts.Cleaner = &cleaner{err: errors.New("disk full")}
		s := newServer(t, opts)
		if w := send(t, s, request{method: "POST", path: "/api/v1/cleanup", token: operatorToken, body: `{"ids":["o1"]}`}); w.Code != 503 {
			t.Errorf("answered %d", w.Code)
		}
		if w := send(t, s, request{method: "GET", path: "/api/v1/orphans"}); w.Code != 503 {
			t.Errorf("answered %d", w.Code)
		}
	})
	t.Run("a server without a cleaner lists none and cleans nothing up", func(t *testing.T) {
		s := newServer(t, options(t, newEngine()))
		if w := send(t, s, request{method: "POST", path: "/api/v1/cleanup", token: operatorToken, body: `{"ids":["o1"]}`}); w.Code != 404 {
			t.Errorf("answered %d", w.Code)
		}
		if w := send(t, s, request{method: "GET", path: "/api/v1/orphans"}); w.Code != 200 || len(dataOf[[]api.Orphan](t, w)) != 0 {
			t.Errorf("answered %d %s", w.Code, w.Body)
		}
	})
}
