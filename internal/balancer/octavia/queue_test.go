package octavia

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// script is a cloud that says what it is told: how the load balancer is at each look,
// and what a change is answered with. The last word of each is repeated.
type script struct {
	mu       sync.Mutex
	statuses []string
	answers  []int
	log      []string
}

func next[T any](words *[]T) T {
	word := (*words)[0]
	if len(*words) > 1 {
		*words = (*words)[1:]
	}
	return word
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := func(code int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(body)
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/auth/tokens"):
		w.Header().Set("X-Subject-Token", "token")
		reply(http.StatusCreated, map[string]any{"token": map[string]any{
			"project": map[string]any{"id": "p", "name": "p"}, "expires_at": "2099-01-01T00:00:00.000000Z",
			"catalog": []any{map[string]any{"type": "load-balancer", "endpoints": []any{
				map[string]any{"interface": "public", "url": "http://" + r.Host},
			}}},
		}})
	case r.Method == http.MethodGet:
		status := next(&s.statuses)
		s.log = append(s.log, status)
		if status == "gone" {
			reply(http.StatusNotFound, map[string]any{"faultstring": "not there"})
			return
		}
		reply(http.StatusOK, map[string]any{"loadbalancer": map[string]any{"id": "lb", "name": "front", "provisioning_status": status}})
	default:
		code := next(&s.answers)
		s.log = append(s.log, strconv.Itoa(code))
		text := "Load Balancer lb is immutable and cannot be updated."
		if code != http.StatusConflict {
			text = "no"
		}
		if code == -http.StatusConflict {
			code, text = http.StatusConflict, "Another member has this address."
		}
		reply(code, map[string]any{"faultstring": text, "member": map[string]any{}})
	}
}

func (s *script) balancer(t *testing.T) *Balancer {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	text := fmt.Sprintf("clouds:\n  here:\n    auth: {auth_url: %q, username: u, password: p, project_name: p, user_domain_id: default, project_domain_id: default}\n", server.URL+"/v3")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Config: cloud.Config{Cloud: "here", CloudsFile: file}}, "us", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func (s *script) change(ctx context.Context, b *Balancer) error {
	return b.change(ctx, "lb", func(c *gophercloud.ServiceClient) error {
		return pools.UpdateMember(ctx, c, "pool", "member", pools.UpdateMemberOpts{Name: new("a")}).Err
	}, "change a member")
}

func TestAChangeWaitsForActiveAroundIt(t *testing.T) {
	const lost = time.Second // of a case that ends by its deadline
	for _, c := range []struct {
		name     string
		statuses []string
		answers  []int
		limit    time.Duration
		log      string // the beginning of what happened
		class    scaling.Class
		says     string // empty: it works
	}{
		{"at once", []string{active}, []int{200}, time.Minute, "ACTIVE 200 ACTIVE", 0, ""},
		{"when another change ends", []string{"PENDING_UPDATE", "PENDING_UPDATE", active}, []int{200}, time.Minute, "PENDING_UPDATE PENDING_UPDATE ACTIVE 200 ACTIVE", 0, ""},
		{"and is done when it is carried out", []string{active, "PENDING_UPDATE", active}, []int{200}, time.Minute, "ACTIVE 200 PENDING_UPDATE ACTIVE", 0, ""},
		{"when somebody else was faster", []string{active, "PENDING_UPDATE", active}, []int{409, 409, 200}, time.Minute, "ACTIVE 409 409 200 PENDING_UPDATE ACTIVE", 0, ""},
		{"and sees ERROR while others are faster", []string{active, failed}, []int{409}, time.Minute, "ACTIVE 409 409 409 409 409 ERROR", scaling.Permanent, "failover lb"},
		{"not when it is refused for another reason", []string{active}, []int{-409}, time.Minute, "ACTIVE -409", scaling.Conflict, "Another member"},
		{"not when it is wrong", []string{active}, []int{400}, time.Minute, "ACTIVE 400", scaling.Permanent, "no"},
		{"not in ERROR", []string{failed}, []int{200}, time.Minute, "ERROR", scaling.Permanent, "failover lb"},
		{"not when it is gone", []string{"gone"}, []int{200}, time.Minute, "gone", scaling.Temporary, "not there"},
		{"and says when it leads to ERROR", []string{active, "PENDING_UPDATE", failed}, []int{200}, time.Minute, "ACTIVE 200 PENDING_UPDATE ERROR", scaling.Permanent, "failover lb"},
		{"not for ever before it", []string{"PENDING_UPDATE"}, []int{200}, lost, "PENDING_UPDATE", scaling.Temporary, "PENDING_UPDATE"},
		{"not for ever for its turn", []string{active}, []int{409}, lost, "ACTIVE 409", scaling.Temporary, "immutable"},
		{"not for ever after it", []string{active, "PENDING_UPDATE"}, []int{200}, lost, "ACTIVE 200 PENDING_UPDATE", scaling.Unknown, "PENDING_UPDATE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &script{statuses: c.statuses, answers: c.answers}
			b := s.balancer(t)
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			err := s.change(ctx, b)
			s.mu.Lock() // nobody may wait for the last answer any more
			defer s.mu.Unlock()
			if got := strings.Join(s.log, " "); c.limit == time.Minute && got != c.log || !strings.HasPrefix(got, c.log) {
				t.Errorf("happened: %s, want %s", got, c.log)
			}
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || scaling.ClassOf(err) != c.class):
				t.Errorf("%v (%v), want a %v error with %q", err, scaling.ClassOf(err), c.class, c.says)
			}
		})
	}
}

func TestOneChangeAtATimePerLoadBalancer(t *testing.T) {
	var q queues
	leave, err := q.enter(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	other, err := q.enter(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no time"))
	if _, err := q.enter(ctx, "one"); scaling.ClassOf(err) != scaling.Temporary || !strings.Contains(err.Error(), "no time") {
		t.Errorf("a turn that does not come: %v", err)
	}
	var order []string
	var second sync.WaitGroup
	second.Go(func() {
		leave, err := q.enter(t.Context(), "one")
		if err != nil {
			t.Error(err)
			return
		}
		order = append(order, "second")
		leave()
	})
	order = append(order, "first")
	leave()
	second.Wait()
	if diff := cmp.Diff([]string{"first", "second"}, order); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestApplyLeavesTimeToObserve(t *testing.T) {
	for limit, least := range map[time.Duration]time.Duration{time.Second: 240 * time.Millisecond, time.Minute: 4900 * time.Millisecond} {
		whole, cancel := context.WithTimeout(t.Context(), limit)
		part, stop := bounded(whole)
		end, _ := whole.Deadline()
		early, ok := part.Deadline()
		if left := end.Sub(early); !ok || left < least || left > limit/2 {
			t.Errorf("of %v an Apply leaves %v", limit, left)
		}
		stop()
		cancel()
	}
	part, stop := bounded(t.Context())
	defer stop()
	if _, ok := part.Deadline(); !ok {
		t.Error("without a deadline an Apply has none of its own")
	}
}
