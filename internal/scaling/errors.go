package scaling

import (
	"context"
	"errors"
	"fmt"
)

// Class says what an error means for whoever asked. Drivers classify; only the
// engine retries, undoes or stops. The zero Class is Unknown on purpose: an
// error that nobody classified may have had an effect.
type Class int

// The classes of an error. New ones are added at the end.
const (
	// Unknown: the outcome is not known; the call may still be running or may
	// have succeeded. No further change is made for that instance until the call
	// returned or its connection closed; then the driver is asked what exists.
	Unknown Class = iota
	// Temporary: nothing was changed and the same call may work later.
	Temporary
	// Conflict: something with that name or identity exists and is not ours, or
	// the object is in a state that forbids the call for now.
	Conflict
	// Quota: there is no room (memory, disk, addresses, a project's quota).
	Quota
	// NotFound: the thing asked for does not exist. For deletion that is success.
	NotFound
	// Permanent: the same call will never work; a person must change something.
	Permanent
)

// String returns the class as it appears in logs, metrics and the API.
func (c Class) String() string {
	switch c {
	case Unknown:
		return "unknown"
	case Temporary:
		return "temporary"
	case Conflict:
		return "conflict"
	case Quota:
		return "quota"
	case NotFound:
		return "not_found"
	case Permanent:
		return "permanent"
	}
	return fmt.Sprintf("class(%d)", int(c))
}

type classified struct {
	class Class
	err   error
}

func (e *classified) Error() string { return e.err.Error() }
func (e *classified) Unwrap() error { return e.err }

// WithClass attaches a class to err; errors.Is and errors.As still see err. The
// outermost class wins. WithClass(c, nil) is nil.
func WithClass(c Class, err error) error {
	if err == nil {
		return nil
	}
	return &classified{class: c, err: err}
}

// Errorf is fmt.Errorf with a class.
func Errorf(c Class, format string, args ...any) error {
	return &classified{class: c, err: fmt.Errorf(format, args...)}
}

// ClassOf returns the class of err: the outermost one attached by WithClass. An
// unclassified error, an expired or a cancelled context is Unknown. ClassOf(nil)
// is Unknown and must not be asked.
func ClassOf(err error) Class {
	if c, ok := errors.AsType[*classified](err); ok {
		return c.class
	}
	return Unknown
}

// IsNotFound reports whether err says that the thing asked for does not exist.
func IsNotFound(err error) bool { return err != nil && ClassOf(err) == NotFound }

// Interrupted reports whether err came from the caller's own context.
func Interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
