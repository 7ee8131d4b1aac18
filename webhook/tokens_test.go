package webhook_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/webhook"
)

func TestTokenFilesThatAreWrong(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"empty":            {"\n\n", "is empty"},
		"short":            {"0123456789abcde", ":1: a token needs at least 16"},
		"short later":      {operatorToken + "\nshort\n", ":2: a token needs"},
		"with a space":     {"0123456789 abcdefghij", "printable ASCII"},
		"with a NUL":       {"0123456789\x00abcdefghij", "printable ASCII"},
		"much too large":   {strings.Repeat("a", 70_000), "is larger than"},
		"not there at all": {"", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "none")
			if tt.content != "" {
				file = writeToken(t, tt.content)
			}
			opts := options(t, newEngine())
			opts.Tokens = []webhook.Token{{Name: "x", File: file, Role: webhook.RoleOperator}}
			if _, err := webhook.New(opts); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want it to hold %q", err, tt.want)
			}
		})
	}
	opts := options(t, newEngine())
	opts.Tokens = []webhook.Token{{Name: "x", File: writeToken(t, operatorToken), Role: "admin"}}
	if _, err := webhook.New(opts); err == nil || !strings.Contains(err.Error(), `role "admin"`) {
		t.Errorf("error %v, want it to name the role", err)
	}
}

func TestTokensAreReadAgain(t *testing.T) {
	file := writeToken(t, operatorToken)
	opts := options(t, newEngine())
	opts.Tokens = []webhook.Token{{Name: "ops", File: file, Role: webhook.RoleOperator}}
	s := newServer(t, opts)
	try := func(token string, want int) {
		t.Helper()
		if w := send(t, s, request{method: "POST", path: "/api/v1/groups/web/resume", token: token}); w.Code != want {
			t.Errorf("token %s: answered %d, want %d", token, w.Code, want)
		}
	}
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const next = "operator-token-9876543210" // as long as the first: only its content differs
	try(operatorToken, 200)
	write(next + "\n")
	try(next, 200)
	try(operatorToken, 401)
	write(next + "\n" + operatorToken + "\n")
	try(next, 200)
	try(operatorToken, 200)

	// A change is noticed by its time, too, once the file is not fresh any more.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	try(next, 200)
	write(next + "\n")
	try(operatorToken, 401)

	// A file that is being written opens no door and closes none for good.
	write("")
	w := send(t, s, request{method: "POST", path: "/api/v1/groups/web/resume", token: next})
	if kind, _ := errorOf(t, w); w.Code != 503 || kind != api.ErrorUnavailable {
		t.Errorf("with an empty file: answered %d %s", w.Code, kind)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	try(next, 503)
	write(next + "\n")
	try(next, 200)
}

func TestSetTokens(t *testing.T) {
	s := newServer(t, options(t, newEngine()))
	const next = "operator-token-9876543210"
	try := func(token string, want int) {
		t.Helper()
		if w := send(t, s, request{method: "POST", path: "/api/v1/groups/web/resume", token: token}); w.Code != want {
			t.Errorf("token %s: answered %d, want %d", token, w.Code, want)
		}
	}
	if err := s.SetTokens([]webhook.Token{{File: writeToken(t, "short"), Role: webhook.RoleOperator}}); err == nil {
		t.Error("a file that is wrong is taken")
	}
	try(operatorToken, 200)
	if err := s.SetTokens([]webhook.Token{{File: writeToken(t, next), Role: webhook.RoleOperator}}); err != nil {
		t.Fatal(err)
	}
	try(operatorToken, 401)
	try(next, 200)
}
