package api

import (
	"encoding/json"
	"fmt"
	"time"
)

// Prefix is the path below which the API lives.
const Prefix = "/api/v1"

// The values of Response.Status.
const (
	StatusSuccess = "success"
	StatusError   = "error"
)

// ErrorType tells errors apart for programs; Response.Error is for people.
type ErrorType string

// The types of an error.
const (
	ErrorBadData      ErrorType = "bad_data"     // the request is malformed: sending it again does not help
	ErrorUnauthorized ErrorType = "unauthorized" // no valid token
	ErrorForbidden    ErrorType = "forbidden"    // a valid token that does not cover this, or a request from elsewhere
	ErrorNotFound     ErrorType = "not_found"    // no such path, group or instance
	ErrorTooLarge     ErrorType = "too_large"    // the body is larger than the server reads
	ErrorRefused      ErrorType = "refused"      // understood, and against bounds, protection or mode
	ErrorKeyReused    ErrorType = "key_reused"   // the Idempotency-Key came with another request
	ErrorUnavailable  ErrorType = "unavailable"  // could not be stored or read now: try again
	ErrorInternal     ErrorType = "internal"     // a bug
)

// Response is the envelope of every JSON answer, that of Prometheus's API.
type Response[T any] struct {
	Status    string    `json:"status"` // success | error
	Data      T         `json:"data,omitzero"`
	ErrorType ErrorType `json:"errorType,omitempty"`
	Error     string    `json:"error,omitempty"`
	// Warnings are what a person should know though the request succeeded.
	Warnings []string `json:"warnings,omitempty"`
}

// Duration is a time.Duration that is a string like "1m30s" in JSON.
type Duration time.Duration

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalJSON reads a string like "90s" or "1h30m"; a bare number is an error,
// since nobody can tell its unit.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("duration %s: write a string with a unit, such as \"90s\" or \"10m\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("duration %q: write a number with a unit, such as \"90s\" or \"10m\"", s)
	}
	*d = Duration(v)
	return nil
}

// String is that of time.Duration.
func (d Duration) String() string { return time.Duration(d).String() }
