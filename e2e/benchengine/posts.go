package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
	"github.com/scalehook/scalehook/webhook"
)

// post is how posts were answered.
type post struct {
	p50, p99, max         time.Duration
	failed                int
	took                  time.Duration
	heapBefore, heapAfter uint64
}

const token = "0123456789abcdef0123456789abcdef"

// posts sends Alertmanager's posts at a steady rate, whether they are answered in
// time or not, over a real socket to the real server, engine and store.
func posts(ctx context.Context, f flags) (p post, err error) {
	const groups = 200
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := store.Open(ctx, filepath.Join(f.dir, "posts.db"), store.Options{})
	if err != nil {
		return p, err
	}
	defer st.Close()
	src := &sources{}
	var spent atomic.Int64
	cfg, err := fleet(ctx, f, st, src, groups, &spent)
	if err != nil {
		return p, err
	}
	for k := range cfg {
		cfg[k].Group.Min = f.instances // low is posted and may not act
	}
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	eng, err := engine.New(ctx, engine.Options{Store: st, Groups: cfg, Meter: src, Confirmers: []scaling.Confirmer{src}, Logger: log, Registerer: reg})
	if err != nil {
		return p, err
	}
	secret := filepath.Join(f.dir, "token")
	if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
		return p, err
	}
	srv, err := webhook.New(webhook.Options{ //nolint:contextcheck // a handler has its request's
		Intake: eng, Operator: eng, Viewer: eng, Logger: log, Registry: reg,
		Tokens: []webhook.Token{{Name: "am", File: secret, Role: webhook.RoleAlerts}},
	})
	if err != nil {
		return p, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return p, err
	}
	ended := make(chan error, 2)
	go func() { ended <- eng.Run(ctx) }()
	go func() { ended <- srv.Run(ctx, []net.Listener{listener}, "") }()
	url := "http://" + listener.Addr().String() + "/api/v1/alertmanager"
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}}
	if err := wait(ctx, 3*time.Second); err != nil {
		return p, err
	}

	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed atomic.Int64
	took := make([]time.Duration, 0, f.posts)
	begun := time.Now()
	for k := range f.posts {
		due := begun.Add(time.Duration(k) * time.Second / time.Duration(f.rate))
		if err := wait(ctx, time.Until(due)); err != nil {
			return p, err
		}
		if k == f.posts/10 {
			wg.Go(func() { p.heapBefore = heap() }) // beside the sender, which must keep its rate
		}
		wg.Go(func() {
			// From when it was due: a server that stalls must not slow the sender down
			// and so look better.
			err := send(ctx, client, url, k%groups, begun)
			d := time.Since(due)
			if err != nil {
				failed.Add(1)
				return
			}
			mu.Lock()
			took = append(took, d)
			mu.Unlock()
		})
	}
	wg.Wait()
	p.took, p.failed, p.heapAfter = time.Since(begun), int(failed.Load()), heap()
	cancel()
	if err := <-ended; err != nil {
		return p, err
	}
	if err := <-ended; err != nil {
		return p, err
	}
	if len(took) == 0 {
		return p, fmt.Errorf("none of %d was answered", f.posts)
	}
	slices.Sort(took)
	p.p50, p.p99, p.max = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	return p, nil
}

func send(ctx context.Context, client *http.Client, url string, group int, begun time.Time) error {
	body, err := json.Marshal(map[string]any{
		"version": "4", "groupKey": "{}", "status": "firing", "receiver": "scalehook",
		"alerts": template.Alerts{{
			Status: "firing", StartsAt: begun, Fingerprint: fmt.Sprintf("%016x", group),
			Labels: template.KV{"alertname": "ScalehookLow", "scalehook_signal": "low", "scaling_group": fmt.Sprintf("group-%05d", group)},
		}},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
