package top

import (
	"context"
	"errors"
	"fmt"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

// verb is what a person asks for.
type verb int

// The verbs.
const (
	verbScaleOut verb = iota
	verbScaleIn
	verbPause
	verbResume
	verbHandover
)

// order is what a person is asked to confirm. What it is about was chosen when the
// key was pressed, so that nothing that changes meanwhile is hit in its place.
type order struct {
	verb     verb
	group    string
	instance string // id; empty: the group's policy chooses
	question string
	key      string // Idempotency-Key, the same when it is sent again
	again    bool   // it was sent before, and no answer came
}

// newOrder asks for the confirmation of an order to a group, and of the instance if
// one was selected.
func newOrder(v verb, g api.Group, i *api.Instance, key string) *order {
	o := &order{verb: v, group: g.Name, key: key}
	s := g.Settings
	if i != nil {
		o.instance = i.ID
	}
	switch v {
	case verbScaleOut:
		o.instance = ""
		o.question = fmt.Sprintf("Scale out %s: launch 1 more VM (desired %d to %d, max %d)?", g.Name, g.Desired, g.Desired+1, s.Max)
	case verbScaleIn:
		what := "1 VM, chosen by the policy " + s.Victim
		if i != nil {
			what = i.Name
		}
		o.question = fmt.Sprintf("Scale in %s: drain and remove %s (desired %d to %d, min %d)?", g.Name, what, g.Desired, g.Desired-1, s.Min)
	case verbPause:
		o.question = fmt.Sprintf("Pause %s: no automatic step begins until it is resumed?", g.Name)
	case verbResume:
		o.question = fmt.Sprintf("Resume %s: end its pause and hold, automatic steps begin again?", g.Name)
		if g.Release != nil {
			o.question = fmt.Sprintf("Resume %s, which was let go: it begins anew and is filled up to min %d with new VMs?", g.Name, s.Min)
		}
	case verbHandover:
		what := "the primary"
		if i != nil {
			what = i.Name
		} else if p := primary(g); p != nil {
			what = p.Name + ", the primary,"
		}
		o.question = fmt.Sprintf("Hand over in %s: put a successor in the place of %s then drain and remove it?", g.Name, what)
	}
	return o
}

func primary(g api.Group) *api.Instance {
	for k, i := range g.Instances {
		if i.ID == g.Primary {
			return &g.Instances[k]
		}
	}
	return nil
}

// send gives the order and returns what was answered.
func (o order) send(ctx context.Context, s Server) (string, error) {
	one := 1
	var res api.OrderResult
	var done api.Done
	var err error
	switch o.verb {
	case verbScaleOut:
		res, err = s.ScaleOut(ctx, o.group, o.key, api.OrderRequest{Count: &one})
	case verbScaleIn:
		res, err = s.ScaleIn(ctx, o.group, o.key, api.OrderRequest{Count: &one, Instance: o.instance})
	case verbHandover:
		res, err = s.Handover(ctx, o.group, o.key, api.OrderRequest{Instance: o.instance})
	case verbPause:
		done, err = s.Pause(ctx, o.group, api.PauseRequest{Direction: "both", Reason: "by hand in scalehook top"})
	case verbResume:
		done, err = s.Resume(ctx, o.group)
	}
	if err != nil {
		return "", err
	}
	text := done.Message
	if res.ID != "" {
		text = fmt.Sprintf("%s: %s (order %s)", o.group, res.Message, res.ID)
		if res.Replayed {
			text += ", which was taken before"
		}
	}
	return text, nil
}

// explain says what an order's refusal means and what helps.
func explain(err error) string {
	answer, answered := errors.AsType[*client.Error](err)
	if !answered {
		return err.Error()
	}
	switch answer.Type {
	case api.ErrorUnauthorized, api.ErrorForbidden:
		return "refused: " + answer.Reason + ". Orders need the token of an operator: start top with --token-file FILE (or SCALEHOOK_TOKEN_FILE)"
	case api.ErrorRefused:
		return "refused: " + answer.Reason
	case api.ErrorUnavailable:
		return "not taken: " + answer.Reason + "; try again"
	case api.ErrorBadData, api.ErrorNotFound, api.ErrorTooLarge, api.ErrorKeyReused, api.ErrorInternal:
	}
	return "not taken: " + answer.Error()
}
