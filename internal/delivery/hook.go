package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Hook is one receiver and what it is told. Whoever makes one has checked its
// bounds.
type Hook struct {
	Name string // for logs and metrics, and under which its position is kept
	// URL may be as good as a password: it is neither logged nor shown.
	URL string
	// SecretFile holds the key of the signatures. It is read for every try.
	SecretFile string
	// Groups, Kinds and Statuses are those it is told of; empty: all.
	Groups   []string
	Kinds    []scaling.ActivityKind
	Statuses []scaling.ActivityStatus

	Timeout     time.Duration // of one try
	MaxTries    int
	GiveUpAfter time.Duration // of all tries, with the pauses
	HTTPClient  promconfig.HTTPClientConfig
}

// wants reports whether the hook is told of the activity.
func (h *Hook) wants(a *scaling.Activity) bool {
	return covers(h.Groups, a.Group) && covers(h.Kinds, a.Kind) && covers(h.Statuses, a.Status)
}

func covers[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// Prepared are hooks that can be used: their clients are made.
type Prepared struct{ receivers []*receiver }

// receiver is a hook with its client.
type receiver struct {
	Hook

	client *http.Client
}

// Prepare reads what the hooks name, their secrets and certificates, and connects
// to nothing. The error has every problem.
func Prepare(hooks []Hook) (Prepared, error) {
	var p Prepared
	var errs []error
	for _, h := range hooks {
		r, err := prepare(h)
		if err != nil {
			errs = append(errs, fmt.Errorf("webhook %s: %w", h.Name, err))
			continue
		}
		p.receivers = append(p.receivers, r)
	}
	if err := errors.Join(errs...); err != nil {
		return Prepared{}, err
	}
	return p, nil
}

// Check reports everything that is wrong with one hook, as Prepare would.
func Check(h Hook) error {
	_, err := prepare(h)
	return err
}

// idleFor is how long a connection is kept for the next delivery. Some clients
// cannot be told to close theirs.
const idleFor = 30 * time.Second

func prepare(h Hook) (*receiver, error) {
	_, err := readSecret(h.SecretFile)
	h.HTTPClient.FollowRedirects = false
	client, clientErr := promconfig.NewClientFromConfig(h.HTTPClient, "scalehook_delivery", promconfig.WithIdleConnTimeout(idleFor))
	if clientErr != nil {
		err = errors.Join(err, fmt.Errorf("http_client: %w", clientErr))
	}
	if err != nil {
		return nil, err
	}
	return &receiver{Hook: h, client: client}, nil
}

// same reports whether a receiver may go on in the place of another.
func (r *receiver) same(other *receiver) bool { return reflect.DeepEqual(r.Hook, other.Hook) }

const (
	// minSecret is how short a secret may be, in bytes: shorter ones can be guessed
	// from one signature.
	minSecret = 16
	// maxSecret bounds what is read of the file, in bytes.
	maxSecret = 4 << 10
)

// readSecret returns the key without the white space around it, which an editor or
// a shell leaves there.
func readSecret(path string) (_ []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	text, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxSecret {
		return nil, fmt.Errorf("%s is larger than %d bytes: it should hold a key", path, maxSecret)
	}
	secret := bytes.TrimSpace(text)
	if len(secret) < minSecret {
		return nil, fmt.Errorf("%s: a key needs at least %d characters (try: openssl rand -hex 32)", path, minSecret)
	}
	if strings.ContainsFunc(string(secret), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%s: a key must be one line of printable ASCII without spaces (try: openssl rand -hex 32)", path)
	}
	return secret, nil
}
