package octavia

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// queues has one queue per load balancer, since Octavia locks a whole one for every
// change: pools that share one take turns instead of refusing each other. What else
// changes it, people and other programs, is met by waiting for ACTIVE.
type queues struct {
	mu  sync.Mutex
	all map[string]chan struct{}
}

// enter waits for the turn at a load balancer and returns what ends it.
func (q *queues) enter(ctx context.Context, id string) (leave func(), err error) {
	q.mu.Lock()
	if q.all == nil {
		q.all = map[string]chan struct{}{}
	}
	turn := q.all[id]
	if turn == nil {
		turn = make(chan struct{}, 1)
		q.all[id] = turn
	}
	q.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, scaling.Errorf(scaling.Temporary, "wait until other groups have changed load balancer %s: %w", id, context.Cause(ctx))
	}
}

// The waits. A look at a load balancer takes some 50 ms; a change takes a second
// with ovn and several with amphora, whose HAProxy is reloaded. Whoever was refused
// for the lock asks again soon: the lock is had by who asks first.
const (
	firstPause   = 100 * time.Millisecond
	refusedPause = 200 * time.Millisecond
	longestPause = time.Second
	looksEvery   = 5 // refusals
	// longestApply bounds an Apply without a deadline of its own.
	longestApply = 5 * time.Minute
)

// pauses grow up to the longest, and are never in step with those of others.
type pauses struct{ next, longest time.Duration }

// wait returns false if the context ended first.
func (p *pauses) wait(ctx context.Context) bool {
	p.next = min(max(p.next*3/2, firstPause), p.longest)
	timer := time.NewTimer(p.next*3/4 + rand.N(p.next/2)) //nolint:gosec // not a secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// change makes one change of a load balancer or of what belongs to it: it waits for
// its turn and for ACTIVE, sends, and waits for ACTIVE again.
//
// Only the engine repeats a call that failed. That Octavia answers 409 "immutable" is
// no failed call: it is how it says that somebody else has the lock, the call had no
// effect, and the wait for the lock goes on. An engine that came back later instead would
// find the lock taken again, by whoever asks more often. The wait ends with ctx, as
// every other does.
func (b *Balancer) change(ctx context.Context, lb string, write func(*gophercloud.ServiceClient) error, what string, args ...any) error {
	what = fmt.Sprintf(what, args...)
	client, err := b.cloud.LoadBalancer(ctx)
	if err != nil {
		return err
	}
	leave, err := b.queues.enter(ctx, lb)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer leave()
	pause := pauses{longest: refusedPause}
	for refused := 0; ; refused++ {
		// A look between every two tries would be one request more than others make, who
		// would be faster each time; but for ever without one, ERROR would not be seen.
		if refused%looksEvery == 0 {
			if err := b.awaitActive(ctx, client, lb, scaling.Temporary); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		err := write(client)
		if err == nil {
			break
		}
		if !immutable(err) {
			err = cloud.Error(err, "%s", what)
			if refused > 0 {
				err = fmt.Errorf("%w (before that it was immutable %d times)", err, refused)
			}
			return err
		}
		b.log.Debug("somebody else changes the load balancer; waiting", "load_balancer", lb, "to", what)
		if !pause.wait(ctx) {
			return scaling.Errorf(scaling.Temporary, "%s: somebody else kept changing the load balancer: %w (%w)", what, context.Cause(ctx), cloud.Error(err, "last try"))
		}
	}
	if err := b.awaitActive(ctx, client, lb, scaling.Unknown); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// immutable reports whether an answer says that the load balancer is being changed.
func immutable(err error) bool {
	code, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	return ok && code.Actual == http.StatusConflict && bytes.Contains(bytes.ToLower(code.Body), []byte("immutable"))
}

// awaitActive waits until a load balancer may be changed. class is what the end of
// ctx means.
func (b *Balancer) awaitActive(ctx context.Context, client *gophercloud.ServiceClient, id string, class scaling.Class) error {
	began := time.Now()
	pause := pauses{longest: longestPause}
	name, status := "", "" // at the last look
	locked := func() error {
		return scaling.Errorf(class, "load balancer %q (%s) is %s, for the last %v; if it stays so, Octavia has lost it and an administrator has to set it free: %w",
			name, id, status, time.Since(began).Round(time.Second), context.Cause(ctx))
	}
	for {
		lb, err := loadbalancers.Get(ctx, client, id).Extract()
		if err != nil {
			if ctx.Err() != nil && status != "" {
				return locked()
			}
			err = cloud.Error(err, "look at load balancer %s", id)
			if c := scaling.ClassOf(err); c == scaling.Temporary || c == scaling.NotFound {
				// One that is gone is looked for again by the next Apply.
				err = scaling.WithClass(class, err)
			}
			return err
		}
		if err := broken(lb); err != nil {
			return err
		}
		if lb.ProvisioningStatus == active {
			return nil
		}
		if name, status = lb.Name, lb.ProvisioningStatus; !pause.wait(ctx) {
			return locked()
		}
	}
}

// broken says that a load balancer needs a person. Octavia changes nothing of one in
// ERROR; it only deletes it, or makes it anew.
func broken(lb *loadbalancers.LoadBalancer) error {
	if lb.ProvisioningStatus != failed {
		return nil
	}
	return scaling.Errorf(scaling.Permanent, "load balancer %q (%s) is in ERROR and cannot be changed: Octavia's log says why; "+
		`"openstack loadbalancer failover %s" makes it anew with everything in it`, lb.Name, lb.ID, lb.ID)
}
