package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/source/ask"
)

// Live examines what a configuration names, as it is now.
type Live struct {
	Config  *config.Config
	Runtime *config.Runtime
	// Server asks the server, which is at ServerURL, with the token in TokenFile; that
	// may be empty.
	Server               *client.Client
	ServerURL, TokenFile string
	// Version is this program's, to tell it from the server's.
	Version string
	// Receivers name Alertmanager's receivers that post here; see Expected.
	Receivers []string
	// CheckToken reads the token of that index as the server does.
	CheckToken func(index int) error
	// CheckWebhook reads what the webhook of that index needs as the server does.
	CheckWebhook func(index int) error
}

// Examine asks everybody once and changes nothing. It blocks until all have answered
// or ctx ends; what did not answer by then is not OK.
func (l Live) Examine(ctx context.Context) []Check {
	x := &live{Live: l, e: Expect(l.Config).At(l.ServerURL)}
	x.e.Receivers = l.Receivers
	// Those that hang must leave time for the others: whatever is asked once is asked at
	// the same time, in half of it, and then Prometheus and Alertmanager in their parts of
	// the rest.
	once, cancel := half(ctx)
	defer cancel()
	var found []config.Finding
	var server []Check
	var wait sync.WaitGroup
	wait.Go(func() { found = l.Runtime.Examine(once) })
	wait.Go(func() { server = x.server(once) })
	wait.Wait()
	var places []Check
	for _, f := range found {
		switch f.Section {
		case "providers", "balancers":
			places = append(places, place(f))
		case "prometheus":
			x.prometheusErr = f.Err
		case "alertmanagers":
			x.alertmanagerErr = f.Err
		}
	}
	all := append(x.tokens(), x.webhooks()...)
	all = append(all, server...)
	rest, cancel := half(ctx)
	defer cancel()
	all = append(all, x.prometheus(rest)...)
	all = append(all, x.alertmanager(ctx)...)
	return append(all, places...)
}

// half bounds ctx to half of the time that is left.
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return config.Within(ctx, time.Until(deadline)/2)
}

// live is one examination.
type live struct {
	Live

	e                              Expected
	prometheusErr, alertmanagerErr error
}

// place makes a check of what a provider or a pool was found to be like.
func place(f config.Finding) Check {
	c := Check{Part: PartProviders, What: f.Name, OK: f.Err == nil, Detail: "answers, and has what its groups need"}
	if f.Section == "balancers" {
		c.Part, c.What, c.Detail = PartBalancers, f.Name+", pool of "+f.Group, "can be seen"
	}
	switch {
	case f.Err != nil:
		c.Detail = oneLine("%v", f.Err)
	case len(f.Warnings) > 0:
		said := make([]string, len(f.Warnings))
		for i, w := range f.Warnings {
			said[i] = w.Error()
		}
		c.Warning, c.Detail = true, strings.Join(said, "; ")
	}
	return c
}

// answerWithin bounds each question over HTTP.
const answerWithin = 10 * time.Second

// get asks for JSON.
func get[T any](ctx context.Context, c *http.Client, name, url string) (out T, err error) {
	ctx, cancel := config.Within(ctx, answerWithin)
	defer cancel()
	said, err := ask.Get(ctx, c, name, url)
	if err != nil {
		return out, err
	}
	if said.Status != http.StatusOK {
		return out, fmt.Errorf("ask %s: %d %s: %s", name, said.Status, http.StatusText(said.Status), ask.Clip(string(said.Body)))
	}
	if err := json.Unmarshal(said.Body, &out); err != nil {
		return out, fmt.Errorf("ask %s: not the answer of its API: %w", name, err)
	}
	return out, nil
}
