package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/api"
)

// TestCleanupRemovesWhatItListed runs the command against a server that takes one
// of two orphans.
func TestCleanupRemovesWhatItListed(t *testing.T) {
	var asked []api.CleanupRequest
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(v any) {
			if err := json.NewEncoder(w).Encode(api.Response[any]{Status: api.StatusSuccess, Data: v}); err != nil {
				t.Error(err)
			}
		}
		if r.Method == http.MethodGet {
			answer([]api.Orphan{
				{Status: "quarantined", Group: "web", ID: "o1", Name: "web-1"},
				{Status: "quarantined", Group: "api", ID: "o2", Name: "api-1"},
				{Kind: "snapshot", Status: "quarantined", Group: "db", ID: "o6", Name: "db-3-copy"},
				{Status: "seen", Group: "web", ID: "o3", Name: "web-3"},
				{Status: "released", Group: "old", ID: "o4", Name: "old-1"},
				{Status: "member", Group: "web", ID: "o5", Name: "sh-o5"},
				{Status: "unmarked", Group: "web", Name: "web-9"},
			})
			return
		}
		var req api.CleanupRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		asked = append(asked, req)
		var out []api.CleanupResult
		for _, id := range req.IDs {
			if id == "o2" {
				out = append(out, api.CleanupResult{ID: id, Group: "api", Name: "api-1", Refused: "budget: 1 removals in the last hour"})
				continue
			}
			if id == "o6" {
				out = append(out, api.CleanupResult{ID: id, Group: "db", Name: "db-3-copy", Removed: true})
				continue
			}
			out = append(out, api.CleanupResult{ID: id, Group: "web", Name: "web-1", Activity: "a1"})
		}
		answer(out)
	}))
	defer s.Close()
	for _, tt := range []struct {
		name, args string
		code       int
		ids        string // of the request; empty: none was sent
		says       string
	}{
		{"without --yes nothing is asked for", "", exitOK, "", "3 quarantined: remove with --yes"},
		{"all that are quarantined, and part of it is refused", "--yes", exitRefused, "o1,o2,o6", "api-1 of group api stays: budget"},
		{"those of a group", "--yes --group web", exitOK, "o1", "web-1 of group web is being removed: activity a1"},
		{"what is removed at once is said so", "--yes --group db", exitOK, "o6", "db-3-copy of group db is removed"},
		{"those named", "--yes web-1", exitOK, "o1", "activity a1"},
		{"one named by its id", "--yes o1", exitOK, "o1", "activity a1"},
		{"what is named and not quarantined is listed and stays", "--yes web-3 old-1 sh-o5 web-9", exitOK, "", "unmarked"},
		{"a name that is not listed stops all of it", "--yes web-1 web-2", exitFailed, "", ""},
		{"as JSON", "--yes --group web -o json", exitOK, "o1", `"activity": "a1"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked = nil
			var out bytes.Buffer
			args := append([]string{"cleanup", "--url", s.URL}, strings.Fields(tt.args)...)
			if got := execute(context.Background(), args, os.Getenv, &out, io.Discard); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			var ids []string
			for _, r := range asked {
				ids = append(ids, r.IDs...)
			}
			if got := strings.Join(ids, ","); got != tt.ids {
				t.Errorf("asked to remove %q, want %q", got, tt.ids)
			}
			if !strings.Contains(out.String(), tt.says) {
				t.Errorf("it does not say %q:\n%s", tt.says, &out)
			}
		})
	}
}
