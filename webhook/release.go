package webhook

import (
	"context"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// release says what a release of the group lets go of, and begins it if that is sure.
func (s *Server) release(c echo.Context) error {
	if s.opts.Leaver == nil {
		return &apiError{http.StatusNotFound, api.ErrorNotFound, "this server cannot release groups"}
	}
	var req api.ReleaseRequest
	if err := readStrict(c, &req); err != nil {
		return err
	}
	group := c.Param("group")
	plan, err := ask(c, func(ctx context.Context) (scaling.ReleasePlan, error) {
		return s.opts.Leaver.Release(ctx, group, req.Yes, by(c))
	})
	if err != nil {
		return err
	}
	res := api.ReleaseResult{VMs: []api.LetGoVM{}, Activity: plan.Activity, Before: releaseOf(plan.Before)}
	for _, i := range plan.Instances {
		vm := api.LetGoVM{ID: i.ID, Name: i.Name, UUID: i.UUID, State: string(i.State), Adopted: i.Adopted}
		if at := plan.Address(i); at.IsValid() {
			vm.Address = at.String()
		}
		if i.Member != nil {
			vm.Member = i.Member.Server
		}
		res.VMs = append(res.VMs, vm)
	}
	for _, v := range plan.Unknown {
		res.VMs = append(res.VMs, api.LetGoVM{ID: v.ID, Name: v.Name, UUID: v.UUID, Adopted: v.Adopted})
	}
	code := http.StatusOK
	switch {
	case plan.Before != nil && plan.Before.Done.IsZero():
		res.Message = fmt.Sprintf("group %s is being let go: activity %s takes its marks off", group, plan.Before.Activity)
	case plan.Before != nil:
		res.Message = fmt.Sprintf("group %s was let go: no VM carries its mark", group)
	case plan.Activity != "":
		code = http.StatusAccepted
		res.Message = fmt.Sprintf("group %s is let go: activity %s takes the marks off %d VMs, which stay as they are with their members", group, plan.Activity, len(res.VMs))
	default:
		res.Message = fmt.Sprintf("would take the marks off %d VMs of group %s and do nothing for it any more; VMs and members stay as they are", len(res.VMs), group)
	}
	return ok(c, code, res)
}

func releaseOf(r *scaling.Release) *api.Release {
	if r == nil {
		return nil
	}
	return &api.Release{By: r.By, At: r.At, Done: r.Done, Activity: r.Activity}
}
