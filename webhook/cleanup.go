package webhook

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// maxCleanup bounds the orphans of one request.
const maxCleanup = 100

func (s *Server) orphans(c echo.Context) error {
	if s.opts.Cleaner == nil {
		return ok(c, http.StatusOK, []api.Orphan{})
	}
	list, err := ask(c, s.opts.Cleaner.Orphans)
	if err != nil {
		return err
	}
	return ok(c, http.StatusOK, convert(list, orphanOf))
}

// cleanup begins to remove orphans that somebody was shown. A token that is
// limited to groups reaches only theirs.
func (s *Server) cleanup(c echo.Context) error {
	if s.opts.Cleaner == nil {
		return &apiError{http.StatusNotFound, api.ErrorNotFound, "this server cannot clean up"}
	}
	var req api.CleanupRequest
	if err := readStrict(c, &req); err != nil {
		return err
	}
	if len(req.IDs) == 0 || len(req.IDs) > maxCleanup {
		return badRequest("ids: %d orphans; name between 1 and %d, as GET %s/orphans has them", len(req.IDs), maxCleanup, api.Prefix)
	}
	order := scaling.Cleanup{IDs: req.IDs, Serving: req.Serving, By: by(c)}
	if req.Group != "" {
		order.Groups = []string{req.Group}
	}
	if t := tokenOf(c); t != nil && len(t.Groups) > 0 {
		if req.Group != "" && !t.allows(req.Group) {
			return &apiError{http.StatusForbidden, api.ErrorForbidden, "token \"" + t.Name + "\" does not cover group \"" + clip(req.Group) + "\""}
		}
		if req.Group == "" {
			order.Groups = slices.Clone(t.Groups)
		}
	}
	// Snapshots and addresses are removed at once.
	res, err := askWithin(c, 4*callTimeout, func(ctx context.Context) ([]scaling.CleanupResult, error) { return s.opts.Cleaner.Cleanup(ctx, order) })
	if err != nil {
		return err
	}
	taken := slices.ContainsFunc(res, func(r scaling.CleanupResult) bool { return r.Activity != "" || r.Removed })
	if !taken {
		var why []string
		for _, r := range res {
			name := r.Name
			if name == "" {
				name = clip(r.ID)
			}
			why = append(why, name+": "+r.Refused)
		}
		return &apiError{http.StatusConflict, api.ErrorRefused, strings.Join(why, "; ")}
	}
	return ok(c, http.StatusAccepted, convert(res, func(r scaling.CleanupResult) api.CleanupResult {
		return api.CleanupResult{ID: r.ID, Group: r.Group, Name: r.Name, Activity: r.Activity, Removed: r.Removed, Refused: r.Refused}
	}))
}

func orphanOf(o scaling.Orphan) api.Orphan {
	return api.Orphan{
		Kind: string(o.Kind), Status: string(o.Status), Provider: o.Provider, Group: o.Group, ID: o.ID, Name: o.Name, UUID: o.UUID,
		Power: string(o.Power), Adopted: o.Adopted, CreatedAt: o.CreatedAt, Sightings: o.Sightings,
		Member: memberOf(o.Member), Note: o.Note,
	}
}
