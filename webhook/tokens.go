package webhook

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Role is what a token allows.
type Role string

// The roles of a token.
const (
	// RoleAlerts may post notifications.
	RoleAlerts Role = "alerts"
	// RoleOperator may give orders, and post notifications too.
	RoleOperator Role = "operator"
)

// Token names a file that holds a bearer token.
type Token struct {
	// Name is for logs and for the "by" of orders; it is never secret.
	Name string
	// File holds the token, or several, one a line, so that one can be replaced
	// without a gap. It is read again when it changes.
	File string
	Role Role
	// Groups limits the token to these groups; empty for all.
	Groups []string
}

const (
	// minToken is how short a token may be, in bytes.
	minToken = 16
	// maxTokenFile bounds what is read of a token file, in bytes.
	maxTokenFile = 64 << 10
	// settledAfter is how old a file's modification must be before an unchanged
	// time proves that its content did not change: clocks of file systems tick slowly.
	settledAfter = 2 * time.Second
)

// errTokensUnreadable says that a token may be right, but cannot be compared now.
var errTokensUnreadable = errors.New("a token file cannot be read")

// tokens are the accepted tokens with the content of their files.
type tokens struct {
	files []*tokenFile
}

func newTokens(list []Token) (*tokens, error) {
	var errs []error
	t := &tokens{}
	for _, tok := range list {
		if tok.Name == "" {
			tok.Name = string(tok.Role)
		}
		if tok.Role != RoleAlerts && tok.Role != RoleOperator {
			errs = append(errs, fmt.Errorf("token %q: role %q: must be %s or %s", tok.Name, tok.Role, RoleAlerts, RoleOperator))
			continue
		}
		f := &tokenFile{Token: tok}
		if _, err := f.read(); err != nil {
			errs = append(errs, err)
		}
		t.files = append(t.files, f)
	}
	return t, errors.Join(errs...)
}

// has reports whether any token grants the role.
func (t *tokens) has(role Role) bool {
	return slices.ContainsFunc(t.files, func(f *tokenFile) bool { return f.Role == role })
}

// find returns the token that was presented; nil if it is none of ours. Every
// file is compared with, in constant time, so that the time it takes tells
// nothing. It fails only when no token matched and a file could not be read.
func (t *tokens) find(presented string) (*Token, error) {
	sum := sha256.Sum256([]byte(presented))
	var found *Token
	var errs []error
	for _, f := range t.files {
		sums, err := f.read()
		if err != nil {
			errs = append(errs, err)
		}
		for _, want := range sums {
			if subtle.ConstantTimeCompare(sum[:], want[:]) == 1 && (found == nil || f.Role == RoleOperator) {
				found = &f.Token
			}
		}
	}
	if found == nil && len(errs) > 0 {
		return nil, fmt.Errorf("%w: %w", errTokensUnreadable, errors.Join(errs...))
	}
	return found, nil
}

// allows reports whether the token covers the group.
func (t *Token) allows(group string) bool {
	return len(t.Groups) == 0 || slices.Contains(t.Groups, group)
}

// tokenFile caches the sums of a token file's lines.
type tokenFile struct {
	Token

	mu      sync.Mutex
	sums    [][sha256.Size]byte
	info    os.FileInfo
	settled bool // info is old enough to trust
}

// read returns the sums of the tokens in the file as it is now. An unreadable,
// empty or malformed file has none: half-written files must not open a door.
func (f *tokenFile) read() ([][sha256.Size]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.File)
	if err != nil {
		f.info = nil
		return nil, fmt.Errorf("token %q: %w", f.Name, err)
	}
	if f.info != nil && f.settled && os.SameFile(f.info, info) &&
		f.info.ModTime().Equal(info.ModTime()) && f.info.Size() == info.Size() {
		return f.sums, nil
	}
	sums, err := readTokenFile(f.File)
	if err != nil {
		f.info = nil
		return nil, fmt.Errorf("token %q: %w", f.Name, err)
	}
	f.sums, f.info = sums, info
	f.settled = time.Since(info.ModTime()) > settledAfter
	return sums, nil
}

func readTokenFile(path string) (_ [][sha256.Size]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	data, err := io.ReadAll(io.LimitReader(file, maxTokenFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxTokenFile {
		return nil, fmt.Errorf("%s is larger than %d bytes: it should hold a token", path, maxTokenFile)
	}
	var sums [][sha256.Size]byte
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if len(line) < minToken {
			return nil, fmt.Errorf("%s:%d: a token needs at least %d characters (try: openssl rand -hex 32)", path, n, minToken)
		}
		if strings.ContainsFunc(string(line), func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("%s:%d: a token must be printable ASCII without spaces", path, n)
		}
		sums = append(sums, sha256.Sum256(line))
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("%s is empty: it should hold a token (try: openssl rand -hex 32)", path)
	}
	return sums, nil
}

// CheckTokens reads the token files and reports everything that is wrong.
func CheckTokens(list []Token) error {
	_, err := newTokens(list)
	return err
}
