package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// apiError is an error that is answered as it stands.
type apiError struct {
	code   int
	kind   api.ErrorType
	reason string
}

// Error returns the reason.
func (e *apiError) Error() string { return e.reason }

// ok answers with data in the envelope.
func ok(c echo.Context, code int, data any, warnings ...string) error {
	c.Set(answerKey, data) // for the audit log
	return c.JSON(code, api.Response[any]{Status: api.StatusSuccess, Data: data, Warnings: warnings})
}

// answerError is echo's error handler: every error becomes an envelope.
func (s *Server) answerError(err error, c echo.Context) {
	s.fail(c.Response(), c.Request(), s.explain(err, c.Request()))
}

// explain finds the answer for an error.
func (s *Server) explain(err error, r *http.Request) *apiError {
	var (
		mine  *apiError
		route *echo.HTTPError
	)
	switch {
	case errors.As(err, &mine):
		return mine
	case errors.As(err, &route):
		kind := api.ErrorBadData
		reason := fmt.Sprintf("%s %s: %s", r.Method, clip(r.URL.Path), strings.ToLower(http.StatusText(route.Code)))
		if route.Code == http.StatusNotFound {
			kind = api.ErrorNotFound
		}
		return &apiError{route.Code, kind, reason}
	case errors.Is(err, scaling.ErrUnknownGroup), errors.Is(err, scaling.ErrUnknownInstance):
		return &apiError{http.StatusNotFound, api.ErrorNotFound, err.Error()}
	case errors.Is(err, scaling.ErrRefused):
		return &apiError{http.StatusConflict, api.ErrorRefused, err.Error()}
	case errors.Is(err, scaling.ErrKeyReused):
		return &apiError{http.StatusUnprocessableEntity, api.ErrorKeyReused, err.Error()}
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return &apiError{http.StatusServiceUnavailable, api.ErrorUnavailable, "the request was cancelled"}
	}
	s.log.Error("a request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	return &apiError{http.StatusServiceUnavailable, api.ErrorUnavailable, "try again: " + err.Error()}
}

// fail writes an error's envelope, unless an answer was begun already.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, e *apiError) {
	if resp, isEcho := w.(*echo.Response); isEcho && resp.Committed {
		return
	}
	if rec, isOurs := w.(*recorder); isOurs && rec.written {
		return
	}
	if e.code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if e.code == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="scalehook"`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.code)
	if r.Method == http.MethodHead {
		return
	}
	body := api.Response[any]{Status: api.StatusError, ErrorType: e.kind, Error: e.reason}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.log.Debug("an answer could not be written", "err", err)
	}
}

// readBody reads the whole body, at most maxBody.
func readBody(c echo.Context) ([]byte, error) {
	r := c.Request()
	data, err := io.ReadAll(http.MaxBytesReader(innermost(c.Response()), r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &apiError{
			http.StatusRequestEntityTooLarge, api.ErrorTooLarge,
			fmt.Sprintf("the body is larger than %d bytes", large.Limit),
		}
	case err != nil:
		return nil, &apiError{http.StatusBadRequest, api.ErrorBadData, fmt.Sprintf("read the body: %v", err)}
	}
	return data, nil
}

// innermost returns net/http's own writer. Only that one, told of a body that is
// too large, lets a client that still sends read the answer before the connection
// is closed.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, wraps := w.(interface{ Unwrap() http.ResponseWriter })
		if !wraps {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// readStrict decodes the body of an order. An empty body leaves v as it is; a
// field that is not known is an error, since a misspelt "count" must not become 1.
func readStrict(c echo.Context, v any) error {
	data, err := readBody(c)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &apiError{http.StatusBadRequest, api.ErrorBadData, "the body goes on after its JSON object"}
	}
	return nil
}

func badJSON(err error) error {
	reason := strings.TrimPrefix(err.Error(), "json: ")
	if syntax, found := errors.AsType[*json.SyntaxError](err); found {
		reason = fmt.Sprintf("byte %d: %s", syntax.Offset, reason)
	}
	return &apiError{http.StatusBadRequest, api.ErrorBadData, "the body is not the JSON expected here: " + reason}
}
