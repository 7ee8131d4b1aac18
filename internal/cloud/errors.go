package cloud

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Error says what was being done when err came, in the words of fmt.Sprintf, and
// what err means to whoever asked. An error that has a class already keeps it. nil
// stays nil.
func Error(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	class, err := classify(err)
	return scaling.Errorf(class, "%s: %w", fmt.Sprintf(format, args...), err)
}

// Gone reports whether a service itself says that an object does not exist. The
// 404 of a proxy, or of a wrong URL, says nothing about the object.
func Gone(err error) bool {
	code, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	if !ok {
		return false
	}
	switch code.Actual {
	case http.StatusGone:
		return true
	case http.StatusNotFound:
		// Every service answers in JSON but Glance.
		return json.Valid(code.Body) && len(code.Body) > 0 || strings.Contains(string(code.Body), "No image found")
	}
	return false
}

// answer is what a service refused something with, in a form for people.
type answer struct {
	status int
	text   string
	err    error
}

func (e *answer) Error() string {
	status := fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
	if e.text == "" {
		return status
	}
	return status + ": " + e.text
}

func (e *answer) Unwrap() error { return e.err }

// classify returns the class of an error from gophercloud or from our transport,
// and the error in words for people.
func classify(err error) (scaling.Class, error) {
	if c := scaling.ClassOf(err); c != scaling.Unknown {
		return c, err
	}
	if e := reauthFailure(err); e != nil {
		// The request itself was refused for its token, and so had no effect.
		class, cause := classify(e)
		if class != scaling.Permanent && !gophercloud.ResponseCodeIs(e, http.StatusUnauthorized) {
			class = scaling.Temporary
		}
		return class, fmt.Errorf("renew the token: %w", cause)
	}
	if e, ok := errors.AsType[*lost](err); ok {
		return classOfLost(e), plain(e)
	}
	if e, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		a := &answer{e.Actual, sentence(e.Body), err}
		return classOfAnswer(e, a.text), a
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return scaling.Temporary, err // whatever was sent is lost, and is told above
	case isA[*gophercloud.ErrEndpointNotFound](err), isA[gophercloud.ErrEndpointNotFound](err),
		isA[gophercloud.ErrMissingInput](err), isA[gophercloud.ErrInvalidInput](err):
		return scaling.Permanent, err
	}
	return scaling.Unknown, err
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// reauthFailure is why a token could not be renewed; nil if that was not tried.
func reauthFailure(err error) error {
	if e, ok := errors.AsType[*gophercloud.ErrUnableToReauthenticate](err); ok {
		return e.ErrReauth
	}
	if e, ok := errors.AsType[gophercloud.ErrUnableToReauthenticate](err); ok {
		return e.ErrReauth
	}
	return nil
}

// plain adds what to do about a certificate.
func plain(e *lost) error {
	if badCertificate(e) {
		return fmt.Errorf("%w: state the authority in ca_file", e)
	}
	return e
}

func badCertificate(err error) bool {
	return isA[x509.UnknownAuthorityError](err) || isA[x509.HostnameError](err) ||
		isA[x509.CertificateInvalidError](err) || isA[*tls.CertificateVerificationError](err)
}

func classOfLost(e *lost) scaling.Class {
	switch {
	case !e.sent && (badCertificate(e) || strings.Contains(e.err.Error(), "server gave HTTP response to HTTPS client")):
		return scaling.Permanent
	case e.harmless():
		return scaling.Temporary
	}
	return scaling.Unknown
}

// hints are words in an answer that say more than its status.
func hints() []struct {
	text  string
	class scaling.Class
} {
	return []struct {
		text  string
		class scaling.Class
	}{
		{"immutable", scaling.Temporary}, // Octavia: another change is under way
		{"task_state", scaling.Temporary},
		{"quota", scaling.Quota},
		{"maximum number of ports", scaling.Quota},
		{"no more ip addresses", scaling.Quota},
		{"no fixed ip addresses", scaling.Quota},
		{"unable to find any ip address", scaling.Quota},
		{"no valid host", scaling.Quota},
	}
}

func classOfAnswer(e gophercloud.ErrUnexpectedResponseCode, text string) scaling.Class {
	switch e.Actual {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusConflict:
		low := strings.ToLower(text)
		for _, hint := range hints() {
			if strings.Contains(low, hint.text) && (hint.class == scaling.Quota || e.Actual == http.StatusConflict) {
				return hint.class
			}
		}
		if e.Actual == http.StatusConflict {
			return scaling.Conflict
		}
		return scaling.Permanent
	case http.StatusNotFound, http.StatusGone:
		if Gone(e) {
			return scaling.NotFound
		}
		return scaling.Temporary // whoever said so is not the service
	case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
		return scaling.Quota
	case http.StatusNotImplemented:
		return scaling.Permanent
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		// A proxy gave up waiting; the service behind it may go on.
		if e.Method != http.MethodGet && e.Method != http.MethodHead {
			return scaling.Unknown
		}
		return scaling.Temporary
	case http.StatusRequestTimeout, http.StatusPreconditionFailed, http.StatusTooEarly, http.StatusTooManyRequests:
		return scaling.Temporary
	}
	switch {
	case e.Actual >= 200 && e.Actual < 300:
		return scaling.Unknown // done, in a way that nobody expected
	case e.Actual < http.StatusInternalServerError:
		return scaling.Permanent
	}
	return scaling.Temporary
}

// longest bounds how much of an answer an error repeats.
const longest = 500

// sentence finds the words for people in an answer: every service has a form of its
// own.
func sentence(body []byte) string {
	text := strings.TrimSpace(string(body))
	var content map[string]any
	if json.Unmarshal(body, &content) == nil {
		text = cmp.Or(words(content), text)
	} else if strings.HasPrefix(text, "<") {
		text = withoutMarkup(text)
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + " …"
	}
	return text
}

// words looks for a message in {"badRequest": {"message": …}}, {"NeutronError":
// {"message": …}}, {"faultstring": …} and {"error": {"message": …}}.
func words(content map[string]any) string {
	for _, key := range []string{"message", "faultstring", "detail", "description"} {
		if text, ok := content[key].(string); ok && text != "" {
			return text
		}
	}
	for _, value := range content {
		switch inner := value.(type) {
		case map[string]any:
			if text := words(inner); text != "" {
				return text
			}
		case []any:
			for _, item := range inner {
				if one, ok := item.(map[string]any); ok {
					if text := words(one); text != "" {
						return text
					}
				}
			}
		case string:
			if len(content) == 1 {
				return inner
			}
		}
	}
	return ""
}

func withoutMarkup(text string) string {
	var out strings.Builder
	inside := false
	for _, r := range text {
		switch {
		case r == '<':
			inside = true
			out.WriteByte(' ')
		case r == '>':
			inside = false
		case !inside:
			out.WriteRune(r)
		}
	}
	return out.String()
}
