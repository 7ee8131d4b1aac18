package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

const (
	defaultActivities = 50
	maxActivities     = 1000
)

func (s *Server) groups(c echo.Context) error {
	views, err := ask(c, s.opts.Viewer.Groups)
	if err != nil {
		return err
	}
	return ok(c, http.StatusOK, convert(views, groupOf))
}

// view looks up the group in the path.
func (s *Server) view(c echo.Context) (scaling.GroupView, error) {
	return ask(c, func(ctx context.Context) (scaling.GroupView, error) {
		return s.opts.Viewer.Group(ctx, c.Param("group"))
	})
}

func (s *Server) group(c echo.Context) error {
	v, err := s.view(c)
	if err != nil {
		return err
	}
	return ok(c, http.StatusOK, groupOf(v))
}

func (s *Server) instances(c echo.Context) error {
	v, err := s.view(c)
	if err != nil {
		return err
	}
	return ok(c, http.StatusOK, convert(v.Instances, instanceOf))
}

func (s *Server) verdicts(c echo.Context) error {
	vs, err := ask(c, func(ctx context.Context) ([]scaling.Verdict, error) {
		return s.opts.Viewer.Verdicts(ctx, c.Param("group"))
	})
	if err != nil {
		return err
	}
	return ok(c, http.StatusOK, convert(vs, verdictOf))
}

// activities answers for one group or, without one in the path, for all.
func (s *Server) activities(c echo.Context) error {
	limit := defaultActivities
	if text := c.QueryParam("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxActivities {
			return badRequest("limit %q: must be a number between 1 and %d", clip(text), maxActivities)
		}
		limit = n
	}
	before := c.QueryParam("before")
	if len(before) > api.MaxKey {
		return badRequest("before: must be the id of an activity")
	}
	group := c.Param("group")
	if group != "" {
		// A group without activities is an empty list, an unknown one an error.
		if _, err := s.view(c); err != nil {
			return err
		}
	}
	as, err := ask(c, func(ctx context.Context) ([]scaling.Activity, error) {
		return s.opts.Viewer.Activities(ctx, group, before, limit)
	})
	if err != nil {
		return err
	}
	return ok(c, http.StatusOK, convert(as, activityOf))
}

func (s *Server) buildInfo(c echo.Context) error { return ok(c, http.StatusOK, s.opts.Build) }

func (s *Server) runtimeInfo(c echo.Context) error {
	views, err := ask(c, s.opts.Viewer.Groups)
	if err != nil {
		return err
	}
	info := api.RuntimeInfo{StartTime: s.started, Ready: true, Groups: len(views)}
	if err := s.opts.Ready(); err != nil {
		info.Ready, info.NotReady = false, err.Error()
	}
	return ok(c, http.StatusOK, info)
}

// config shows the configuration in force. Its secrets are hidden, and still it says
// where everything is: it is for operators, and for those of all groups.
func (s *Server) config(c echo.Context) error {
	if s.opts.Config == nil {
		return &apiError{http.StatusNotFound, api.ErrorNotFound, "this server does not show its configuration"}
	}
	if t := tokenOf(c); t != nil && len(t.Groups) > 0 {
		return &apiError{http.StatusForbidden, api.ErrorForbidden, fmt.Sprintf("token %q is limited to groups and cannot see the configuration", t.Name)}
	}
	text, err := s.opts.Config()
	if err != nil {
		return err
	}
	return ok(c, http.StatusOK, api.ConfigInfo{YAML: text})
}

func (s *Server) healthy(c echo.Context) error {
	return c.String(http.StatusOK, "scalehook is healthy.\n")
}

func (s *Server) ready(c echo.Context) error {
	if err := s.opts.Ready(); err != nil {
		return c.String(http.StatusServiceUnavailable, "scalehook is not ready: "+err.Error()+"\n")
	}
	return c.String(http.StatusOK, "scalehook is ready.\n")
}

// whoami says what the request's token allows, so that a page or a program can tell
// which orders are possible before it gives one.
func (s *Server) whoami(c echo.Context) error {
	tok, err := s.authenticate(c.Request())
	switch {
	case err != nil:
		return err
	case tok != nil:
		return ok(c, http.StatusOK, api.Whoami{Name: tok.Name, Role: string(tok.Role), Groups: tok.Groups})
	case s.opts.Insecure:
		return ok(c, http.StatusOK, api.Whoami{Role: string(RoleOperator)})
	}
	return &apiError{http.StatusUnauthorized, api.ErrorUnauthorized, "a bearer token is needed"}
}
