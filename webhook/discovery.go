package webhook

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// letGo is the state of a member that was let go: it serves on, and is no instance.
const letGo scaling.InstanceState = "let_go"

// metaLabel begins the labels that members are discovered with.
const metaLabel = "__meta_scalehook_"

// discovery lists the members for Prometheus's HTTP service discovery. Prometheus
// keeps what it has on every answer but 200, so what is not known is an error and
// never a shorter list.
func (s *Server) discovery(c echo.Context) error {
	query := c.QueryParams()
	port, err := scrapePort(query.Get("port"))
	if err != nil {
		return err
	}
	states, err := scrapeStates(query["state"])
	if err != nil {
		return err
	}
	views, err := ask(c, func(ctx context.Context) ([]scaling.GroupView, error) { return s.discovered(ctx, query["group"]) })
	if err != nil {
		return err
	}
	list := []api.TargetGroup{}
	for _, v := range views {
		if v.ProviderSeen.IsZero() && len(v.Instances) == 0 && len(v.State.LetGo) == 0 {
			return &apiError{
				http.StatusServiceUnavailable, api.ErrorUnavailable,
				fmt.Sprintf("group %s: provider %s was not listed yet, and nothing is known of the group's members", v.Group.Name, v.Group.Provider),
			}
		}
		for _, i := range v.Instances {
			if i.Address.IsValid() && slices.Contains(states, i.State) {
				list = append(list, targetOf(v.Group, i, port))
			}
		}
		if slices.Contains(states, letGo) {
			for _, i := range servingOn(v, states) {
				list = append(list, targetOf(v.Group, i, port))
			}
		}
	}
	return c.JSON(http.StatusOK, list)
}

// servingOn are the members that were let go, but for those that are listed since they
// are instances: they are not yet let go entirely, or in service again.
func servingOn(v scaling.GroupView, states []scaling.InstanceState) (list []scaling.InstanceView) {
	for _, l := range v.State.LetGo {
		listed := slices.ContainsFunc(v.Instances, func(i scaling.InstanceView) bool { return i.ID == l.ID && slices.Contains(states, i.State) })
		if l.Address.IsValid() && !listed {
			list = append(list, scaling.InstanceView{Instance: scaling.Instance{
				ID: l.ID, Group: v.Group.Name, Name: l.Name, UUID: l.UUID, State: letGo, Address: l.Address,
			}})
		}
	}
	return list
}

// discovered looks up the groups of these names; all without a name.
func (s *Server) discovered(ctx context.Context, names []string) ([]scaling.GroupView, error) {
	if len(names) == 0 {
		return s.opts.Viewer.Groups(ctx)
	}
	var views []scaling.GroupView
	for _, name := range names {
		v, err := s.opts.Viewer.Group(ctx, name)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

// scrapePort reads the port to scrape in place of the members' own; 0 for none.
func scrapePort(text string) (uint16, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, badRequest("port %q: must be a number between 1 and 65535", clip(text))
	}
	return uint16(n), nil
}

// scrapeStates reads which members are wanted: without a word those that serve. One
// that is drained serves its sessions to the end, and one that was let go serves on.
func scrapeStates(words []string) ([]scaling.InstanceState, error) {
	if len(words) == 0 {
		return []scaling.InstanceState{scaling.StateInService, scaling.StateDraining, letGo}, nil
	}
	var states []scaling.InstanceState
	for _, w := range words {
		if !slices.Contains(scaling.InstanceStates(), scaling.InstanceState(w)) {
			return nil, badRequest("state %q: must be one of %s", clip(w), strings.Join(convert(scaling.InstanceStates(), text), ", "))
		}
		states = append(states, scaling.InstanceState(w))
	}
	return states, nil
}

func targetOf(g scaling.Group, i scaling.InstanceView, port uint16) api.TargetGroup {
	if port == 0 {
		port = g.Port
	}
	// Without a port Prometheus takes that of the scheme.
	target := i.Address.String()
	switch {
	case port != 0:
		target = net.JoinHostPort(target, strconv.Itoa(int(port)))
	case i.Address.Is6():
		target = "[" + target + "]"
	}
	return api.TargetGroup{Targets: []string{target}, Labels: map[string]string{
		metaLabel + "group":    g.Name,
		metaLabel + "vm":       valid(i.Name),
		metaLabel + "instance": i.ID,
		metaLabel + "uuid":     i.UUID,
		metaLabel + "state":    string(i.State),
		metaLabel + "primary":  strconv.FormatBool(i.Primary),
		metaLabel + "warm":     strconv.FormatBool(i.Warm),
		metaLabel + "adopted":  strconv.FormatBool(i.Adopted),
		metaLabel + "provider": valid(g.Provider),
	}}
}
