package webhook

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// maxCount bounds the count of an order; no group is that large, and the group's
// own bounds are checked by whoever takes the order.
const maxCount = 10_000

// maxHold bounds a hold and a pause that has an end.
const maxHold = 366 * 24 * time.Hour

// ask lets the engine work for a request, with a deadline. The connection is kept
// from being dropped meanwhile, but not while a slow client reads the answer.
func ask[T any](c echo.Context, f func(ctx context.Context) (T, error)) (T, error) {
	return askWithin(c, callTimeout, f)
}

// askWithin is ask for what may take longer.
func askWithin[T any](c echo.Context, limit time.Duration, f func(ctx context.Context) (T, error)) (T, error) {
	defer working(c.Request().Context())()
	ctx, cancel := context.WithTimeoutCause(c.Request().Context(), limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	return f(ctx)
}

// do is ask for what has no answer but its error.
func do(c echo.Context, f func(ctx context.Context) error) error {
	_, err := ask(c, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

func badRequest(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, api.ErrorBadData, fmt.Sprintf(format, args...)}
}

// order takes a manual action of the kind.
func (s *Server) order(kind scaling.OrderKind) echo.HandlerFunc {
	return func(c echo.Context) error {
		o, err := readOrder(c, kind)
		if err != nil {
			return err
		}
		group := c.Param("group")
		res, err := ask(c, func(ctx context.Context) (scaling.OrderResult, error) {
			return s.opts.Operator.Order(ctx, group, o)
		})
		if err != nil {
			s.log.Warn("an order was not taken", "scaling_group", clip(group), "kind", kind, "by", o.By, "err", err)
			return err
		}
		if res.Replayed {
			c.Response().Header().Set("Idempotency-Replayed", "true")
		}
		return ok(c, http.StatusAccepted, api.OrderResult{ID: res.ID, Replayed: res.Replayed, Message: res.Message})
	}
}

// readOrder reads and checks an order's body and key.
func readOrder(c echo.Context, kind scaling.OrderKind) (scaling.Order, error) {
	var req api.OrderRequest
	if err := readStrict(c, &req); err != nil {
		return scaling.Order{}, err
	}
	o := scaling.Order{Kind: kind, Instance: req.Instance, Hold: time.Duration(req.Hold), By: by(c)}
	if key := c.Request().Header.Get(api.IdempotencyKey); key != "" {
		if len(key) > api.MaxKey {
			return o, badRequest("%s: at most %d characters", api.IdempotencyKey, api.MaxKey)
		}
		o.Key = key
	}
	if o.Hold < 0 || o.Hold > maxHold {
		return o, badRequest("hold %s: must be between 0 and %s", req.Hold, maxHold)
	}
	if req.Instance != "" {
		if kind != scaling.OrderScaleIn && kind != scaling.OrderHandover {
			return o, badRequest("instance: only a scale-in and a handover name one")
		}
		if err := scaling.ValidName(req.Instance); err != nil {
			return o, badRequest("instance: %v", err)
		}
	}
	switch kind {
	case scaling.OrderSetDesired:
		if req.Count == nil {
			return o, badRequest("count: the wished number of instances is missing")
		}
		if *req.Count < 0 || *req.Count > maxCount {
			return o, badRequest("count %d: must be between 0 and %d", *req.Count, maxCount)
		}
		o.Count = *req.Count
	case scaling.OrderScaleOut, scaling.OrderScaleIn:
		o.Count = 1
		if req.Count != nil {
			o.Count = *req.Count
		}
		if o.Count < 1 || o.Count > maxCount {
			return o, badRequest("count %d: must be between 1 and %d", o.Count, maxCount)
		}
		if o.Instance != "" && o.Count != 1 {
			return o, badRequest("count %d: with an instance named it must be 1", o.Count)
		}
	case scaling.OrderHandover:
		if req.Count != nil {
			return o, badRequest("count: a handover has none")
		}
	}
	return o, nil
}

// pause keeps automatic steps from beginning.
func (s *Server) pause(c echo.Context) error {
	var req api.PauseRequest
	if err := readStrict(c, &req); err != nil {
		return err
	}
	now := s.opts.Now()
	p := scaling.Pause{By: by(c), Reason: req.Reason, At: now}
	switch req.Direction {
	case "", "both":
		p.Out, p.In = true, true
	case "out":
		p.Out = true
	case "in":
		p.In = true
	default:
		return badRequest("direction %q: must be out, in or both", clip(req.Direction))
	}
	if req.For < 0 || time.Duration(req.For) > maxHold {
		return badRequest("for %s: must be between 0 and %s", req.For, maxHold)
	}
	if len(req.Reason) > 1000 {
		return badRequest("reason: at most 1000 bytes")
	}
	until := "until it is resumed"
	if req.For > 0 {
		p.Until = now.Add(time.Duration(req.For))
		until = "until " + p.Until.UTC().Format(time.RFC3339)
	}
	group := c.Param("group")
	if err := do(c, func(ctx context.Context) error { return s.opts.Operator.Pause(ctx, group, p) }); err != nil {
		return err
	}
	return ok(c, http.StatusOK, api.Done{Message: fmt.Sprintf("group %s is paused %s", group, until)})
}

// resume ends a pause, a hold and a release.
func (s *Server) resume(c echo.Context) error {
	var req api.ResumeRequest
	if err := readStrict(c, &req); err != nil {
		return err
	}
	if req.Force && s.opts.Leaver == nil {
		return &apiError{http.StatusNotFound, api.ErrorNotFound, "this server cannot release groups"}
	}
	group := c.Param("group")
	err := do(c, func(ctx context.Context) error {
		if req.Force {
			return s.opts.Leaver.Retake(ctx, group, by(c))
		}
		return s.opts.Operator.Resume(ctx, group, by(c))
	})
	if err != nil {
		return err
	}
	return ok(c, http.StatusOK, api.Done{Message: fmt.Sprintf("group %s is resumed", group)})
}

// protect sets or takes off an instance's protection.
func (s *Server) protect(c echo.Context) error {
	var req api.ProtectRequest
	if err := readStrict(c, &req); err != nil {
		return err
	}
	if req.Protected == nil {
		return badRequest("protected: must be true or false")
	}
	group, instance := c.Param("group"), c.Param("instance")
	err := do(c, func(ctx context.Context) error {
		return s.opts.Operator.Protect(ctx, group, instance, *req.Protected, by(c))
	})
	if err != nil {
		return err
	}
	word := "protected"
	if !*req.Protected {
		word = "not protected"
	}
	return ok(c, http.StatusOK, api.Done{Message: fmt.Sprintf("instance %s of group %s is %s", instance, group, word)})
}

// standby takes an instance out of traffic, or puts it back.
func (s *Server) standby(c echo.Context) error {
	var req api.StandbyRequest
	if err := readStrict(c, &req); err != nil {
		return err
	}
	if req.Standby == nil {
		return badRequest("standby: must be true or false")
	}
	group, instance := c.Param("group"), c.Param("instance")
	err := do(c, func(ctx context.Context) error {
		return s.opts.Operator.Standby(ctx, group, instance, *req.Standby, by(c))
	})
	if err != nil {
		return err
	}
	word := "is in standby: it gets no new traffic and its VM stays as it is"
	if !*req.Standby {
		word = "is back in service"
	}
	return ok(c, http.StatusOK, api.Done{Message: fmt.Sprintf("instance %s of group %s %s", instance, group, word)})
}

// reload reads the configuration again. A token proves that no browser sent it;
// without one the content type has to.
func (s *Server) reload(c echo.Context) error {
	if s.opts.Reload == nil {
		return &apiError{http.StatusForbidden, api.ErrorForbidden, "reload by HTTP is off: start with --web.enable-lifecycle, or send SIGHUP"}
	}
	if tokenOf(c) == nil && !isJSON(c.Request()) {
		return &apiError{http.StatusUnsupportedMediaType, api.ErrorBadData, "without a token the content type must be application/json"}
	}
	if t := tokenOf(c); t != nil && len(t.Groups) > 0 {
		return &apiError{http.StatusForbidden, api.ErrorForbidden, fmt.Sprintf("token %q is limited to groups and cannot reload", t.Name)}
	}
	effects, err := askWithin(c, 4*callTimeout, s.opts.Reload)
	if err != nil {
		s.log.Error("the configuration was not reloaded; the old one stays", "err", err)
		return &apiError{http.StatusInternalServerError, api.ErrorBadData, fmt.Sprintf("not reloaded, the old configuration stays: %v", err)}
	}
	return ok(c, http.StatusOK, api.Reloaded{Message: "the configuration was reloaded", Effects: convert(effects, effectOf)})
}

// backup sends a consistent copy of the store.
func (s *Server) backup(c echo.Context) error {
	if s.opts.Backup == nil {
		return &apiError{http.StatusNotFound, api.ErrorNotFound, "this server cannot back up its store"}
	}
	if t := tokenOf(c); t != nil && len(t.Groups) > 0 {
		return &apiError{http.StatusForbidden, api.ErrorForbidden, fmt.Sprintf("token %q is limited to groups and cannot back up", t.Name)}
	}
	dir, err := os.MkdirTemp(s.opts.BackupDir, "backup-")
	if err != nil {
		return fmt.Errorf("make a folder for the copy: %w", err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			s.log.Warn("a copy of the store was left behind", "dir", dir, "err", err)
		}
	}()
	file := filepath.Join(dir, "scalehook.db")
	ctx, cancel := context.WithTimeoutCause(c.Request().Context(), time.Minute, fmt.Errorf("not copied within %s", time.Minute))
	defer cancel()
	if err := s.opts.Backup(ctx, file); err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	s.log.Info("the store was backed up", "by", by(c))
	return longAnswer(func(c echo.Context) error {
		c.Response().Header().Set("Content-Type", "application/vnd.sqlite3")
		return c.File(file)
	})(c)
}
