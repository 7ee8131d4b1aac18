package openstack

import (
	"context"
	"fmt"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/fault"
	"github.com/scalehook/scalehook/internal/scaling"
)

// change makes a call that changes something, with a fault point on either side,
// such as "openstack.create server.before". what is fixed text, on names what it is
// done to. A service goes on with what it was asked for whether somebody waits or
// not; so when ctx ends the request is left to itself for as long as one may take,
// the operation's lock with it, and the error is Unknown. call must not touch what
// its caller reads after an error.
func change(ctx context.Context, what, on string, call func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return scaling.Errorf(scaling.Temporary, "%s %s: not begun: %w", what, on, context.Cause(ctx))
	}
	if fault.Enabled {
		fault.Point("openstack." + what + ".before")
	}
	answer := make(chan error, 1)
	op, _ := ctx.Value(operationKey{}).(*operation)
	if op != nil {
		op.wait.Add(1)
	}
	go func() {
		if op != nil {
			defer op.wait.Done()
		}
		answer <- call(context.WithoutCancel(ctx))
	}()
	select {
	case err := <-answer:
		if fault.Enabled {
			fault.Point("openstack." + what + ".after")
		}
		return cloud.Error(err, "%s", fmt.Sprintf("%s %s", what, on))
	case <-ctx.Done():
	}
	if op != nil {
		op.abandoned.Add(1)
	}
	return scaling.Errorf(scaling.Unknown, "%s %s: no answer yet: %w", what, on, context.Cause(ctx))
}
