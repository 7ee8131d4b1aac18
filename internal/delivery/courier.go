package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

const (
	// page is how many activities a courier holds at a time.
	page = 100
	// maxWaiting is how many ended activities a receiver may be behind. Of more the
	// oldest are dropped.
	maxWaiting = 10_000
	// maxAge is how long after its end a receiver is still told of an activity.
	maxAge = 24 * time.Hour
	// firstPause and longestPause bound the pauses between tries, which double, each
	// half to one and a half as long so that receivers are not hit in step.
	firstPause   = time.Second
	longestPause = time.Minute
	// unreadPause is how long after a secret could not be read it is looked for again.
	unreadPause = 5 * time.Second
)

// courier takes one receiver what it is to be told, one delivery after the other.
type courier struct {
	*receiver

	service *Service
	log     *slog.Logger
	wake    chan struct{}
	stop    context.CancelFunc // begins nothing more
	halt    context.CancelFunc // breaks off the try under way too
	done    chan struct{}

	told   atomic.Int64 // nothing up to here has to be told any more
	oldest atomic.Int64 // when the activity ended that waits longest, in ns since 1970; 0: none waits

	failing, dropping, blind bool // said so already
}

// run works until ctx ends. A try that began then goes on until hard ends.
func (c *courier) run(ctx, hard context.Context) {
	defer close(c.done)
	defer c.client.CloseIdleConnections()
	for ctx.Err() == nil {
		last := c.service.last.Load()
		list, err := c.service.Journal.Endings(ctx, c.told.Load(), page)
		if err != nil {
			if !c.blind && ctx.Err() == nil {
				c.log.Error("the activities that ended cannot be read; deliveries wait", "err", err)
			}
			c.blind = true
			sleep(ctx, every, c.wake)
			continue
		}
		c.blind = false
		for k := range list {
			c.skip(list[k].Position - 1)
			if ctx.Err() != nil || !c.handle(ctx, hard, &list[k]) {
				return // it is told after the next start
			}
			c.told.Store(list[k].Position)
		}
		if len(list) < page {
			c.skip(last) // the history's end may be dropped, too
		}
		if len(list) == 0 {
			sleep(ctx, time.Hour, c.wake)
		}
	}
}

// skip passes what the history does not have any more.
func (c *courier) skip(to int64) {
	if n := to - c.told.Load(); n > 0 {
		c.drop(n, "the history does not have them any more")
		c.told.Store(to)
	}
}

// drop counts activities that the receiver is never told of.
func (c *courier) drop(n int64, why string) {
	c.service.metrics.deliveries.WithLabelValues(c.Name, resultDropped).Add(float64(n))
	if !c.dropping {
		c.log.Error("a webhook is too far behind: activities are dropped that it is not told of", "why", why)
	}
	c.dropping = true
}

// handle tells the receiver of an activity, or decides that it is not told. It
// reports whether that is done with; it is not if the courier was stopped.
func (c *courier) handle(ctx, hard context.Context, e *scaling.Ending) bool {
	if e.Err != nil {
		c.service.unreadable(e)
		c.service.metrics.deliveries.WithLabelValues(c.Name, resultUnreadable).Inc()
		return true
	}
	if !c.wants(&e.Activity) {
		return true
	}
	if c.late(e) {
		return true
	}
	c.oldest.Store(e.Activity.Ended.UnixNano())
	defer c.oldest.Store(0)
	done := c.deliver(ctx, hard, e)
	if done && c.service.last.Load()-e.Position < maxWaiting/2 {
		c.dropping = false
	}
	return done
}

// late drops what is too old, or too far behind.
func (c *courier) late(e *scaling.Ending) bool {
	switch {
	case c.service.last.Load()-e.Position >= maxWaiting:
		c.drop(1, fmt.Sprintf("%d activities wait", maxWaiting))
	case time.Since(e.Activity.Ended) > maxAge:
		c.drop(1, fmt.Sprintf("they ended more than %v ago", maxAge))
	default:
		return false
	}
	return true
}

// deliver tries until the receiver has it, refuses it, or the bounds are reached.
func (c *courier) deliver(ctx, hard context.Context, e *scaling.Ending) (done bool) {
	id := e.Activity.ID + "." + c.Name
	body, err := c.body(id, &e.Activity)
	if err != nil {
		c.end(resultRejected, id, 0, err)
		return true
	}
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: firstPause, RandomizationFactor: backoff.DefaultRandomizationFactor, Multiplier: 2, MaxInterval: longestPause,
	}
	end := time.Now().Add(c.GiveUpAfter)
	for tries := 1; ; {
		attempt, cancel := context.WithDeadlineCause(hard, end, fmt.Errorf("no answer within what was left of %v", c.GiveUpAfter))
		o := c.try(attempt, c.service.agent, id, body)
		cancel()
		if hard.Err() != nil && o.err != nil {
			return false
		}
		if o.unread {
			if !c.await(ctx, end, id, tries-1, o.err) {
				return ctx.Err() == nil
			}
			continue
		}
		c.service.metrics.tries.WithLabelValues(c.Name, o.code).Inc()
		switch {
		case o.err == nil:
			c.end(resultDelivered, id, tries, nil)
			return true
		case o.final:
			c.end(resultRejected, id, tries, o.err)
			return true
		}
		pause := max(pauses.NextBackOff(), o.after)
		if tries >= c.MaxTries || time.Now().Add(pause).After(end) {
			c.end(resultGivenUp, id, tries, o.err)
			return true
		}
		if !c.failing {
			c.failing = true
			c.log.Warn("a webhook did not take a delivery; it is tried again", "delivery", id, "err", o.err)
		}
		sleep(ctx, pause, nil)
		if ctx.Err() != nil {
			return false
		}
		tries++
	}
}

// await pauses while the secret cannot be read. That is no try: nothing was sent. It
// reports whether to go on; it ends the delivery where there is no time left.
func (c *courier) await(ctx context.Context, end time.Time, id string, tries int, err error) bool {
	if time.Now().Add(unreadPause).After(end) {
		c.end(resultGivenUp, id, tries, err)
		return false
	}
	if !c.failing {
		c.failing = true
		c.log.Warn("a webhook's secret cannot be read; its deliveries wait", "delivery", id, "err", err)
	}
	sleep(ctx, unreadPause, nil)
	return ctx.Err() == nil
}

// end counts what became of a delivery and says so where a person should know.
func (c *courier) end(result, id string, tries int, err error) {
	c.service.metrics.deliveries.WithLabelValues(c.Name, result).Inc()
	switch {
	case err == nil && c.failing:
		c.failing = false
		c.log.Info("a webhook takes deliveries again", "delivery", id, "tries", tries)
	case err != nil && result == resultGivenUp:
		c.failing = true
		c.log.Error("a webhook was not told of an activity: it did not answer well in time", "delivery", id, "tries", tries, "err", err)
	case err != nil:
		c.log.Error("a webhook was not told of an activity: it refuses", "delivery", id, "tries", tries, "err", err)
	}
}

// body is what is posted, the same bytes for each try.
func (c *courier) body(id string, a *scaling.Activity) ([]byte, error) {
	o := &c.service.Options
	return json.Marshal(api.Delivery{
		Version: api.DeliveryVersion, ID: id, Webhook: c.Name, Owner: o.Owner, Host: o.Host, ExternalURL: o.ExternalURL,
		Group: a.Group, Activity: o.Convert(*a),
	})
}

// sleep waits until the time is over, somebody wakes it, or ctx ends.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}
