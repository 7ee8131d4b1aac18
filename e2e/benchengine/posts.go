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
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
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

// post is how posts were answered, and what they left of the heap.
type post struct {
	sent

	heapBefore, heapAfter uint64
}

// sent is what the sender saw.
type sent struct {
	P50, P99, Max, Took time.Duration
	Failed              int
}

// postGroups is how many groups the posts are for.
const postGroups = 200

const token = "0123456789abcdef0123456789abcdef"

// posts has Alertmanager's posts sent over a real socket to the real server, engine
// and store.
func posts(ctx context.Context, f flags) (p post, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := store.Open(ctx, filepath.Join(f.dir, "posts.db"), store.Options{})
	if err != nil {
		return p, err
	}
	defer st.Close()
	src := &sources{}
	var spent atomic.Int64
	cfg, err := fleet(ctx, f, st, src, postGroups, &spent)
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
	if err := wait(ctx, 3*time.Second); err != nil {
		return p, err
	}
	var early sync.WaitGroup
	early.Go(func() {
		if wait(ctx, time.Duration(f.posts/10)*time.Second/time.Duration(f.rate)) == nil {
			p.heapBefore = heap()
		}
	})
	sent, err := sender(ctx, f, "http://"+listener.Addr().String()+"/api/v1/alertmanager")
	early.Wait()
	if err != nil {
		return p, err
	}
	p.sent, p.heapAfter = sent, heap()
	cancel()
	if err := <-ended; err != nil {
		return p, err
	}
	return p, <-ended
}

// sender runs this program once more to send the posts: what a sender allocates
// and collects is no work of the server's.
func sender(ctx context.Context, f flags, url string) (s sent, err error) {
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, self, "-send-to", url, "-posts", strconv.Itoa(f.posts), "-rate", strconv.Itoa(f.rate))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("run the sender: %w", err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("read what the sender says: %w", err)
	}
	return s, nil
}

// sendAll sends Alertmanager's posts at a steady rate, whether they are answered in
// time or not.
func sendAll(ctx context.Context, f flags) (s sent, err error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	took := make([]time.Duration, 0, f.posts)
	begun := time.Now()
	for k := range f.posts {
		due := begun.Add(time.Duration(k) * time.Second / time.Duration(f.rate))
		if err := wait(ctx, time.Until(due)); err != nil {
			return s, err
		}
		wg.Go(func() {
			// From when it was due: a server that stalls must not slow the sender down
			// and so look better.
			err := send(ctx, client, f.sendTo, k%postGroups, begun)
			d := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.Failed++
				return
			}
			took = append(took, d)
		})
	}
	wg.Wait()
	s.Took = time.Since(begun)
	if len(took) == 0 {
		return s, fmt.Errorf("none of %d was answered", f.posts)
	}
	slices.Sort(took)
	s.P50, s.P99, s.Max = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	return s, nil
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
