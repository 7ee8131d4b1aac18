package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an identity service with a catalog, and a compute service that knows
// nothing.
type fake struct {
	*httptest.Server
	mux      *http.ServeMux
	logins   atomic.Int32
	password string
	mu       sync.Mutex
	valid    string // the token that is good
	versions []string
}

func newFake(t *testing.T, tls bool) *fake {
	t.Helper()
	f := &fake{password: "secret"}
	mux := http.NewServeMux()
	f.mux = mux
	mux.HandleFunc("POST /v3/auth/tokens", f.login)
	mux.HandleFunc("GET /v2.1/servers/detail", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		ok := r.Header.Get("X-Auth-Token") == f.valid
		f.versions = append(f.versions, r.Header.Get("OpenStack-API-Version"))
		f.mu.Unlock()
		if !ok {
			http.Error(w, `{"error": {"message": "expired"}}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"servers": []}`)
	})
	f.Server = httptest.NewUnstartedServer(mux)
	f.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(t.Output(), nil), slog.LevelInfo)
	if tls {
		f.StartTLS()
	} else {
		f.Start()
	}
	t.Cleanup(f.Close)
	return f
}

func (f *fake) login(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !strings.Contains(string(body), `"`+f.password+`"`) {
		http.Error(w, `{"error": {"message": "The request you have made requires authentication.", "code": 401}}`, http.StatusUnauthorized)
		return
	}
	token := fmt.Sprint("token-", f.logins.Add(1))
	f.mu.Lock()
	f.valid = token
	f.mu.Unlock()
	w.Header().Set("X-Subject-Token", token)
	w.WriteHeader(http.StatusCreated)
	endpoint := func(face, region, url string) map[string]any {
		return map[string]any{"interface": face, "region": region, "region_id": region, "url": url}
	}
	json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{
		"project": map[string]any{"id": "p1", "name": "demo"},
		"catalog": []any{
			map[string]any{"type": "compute", "endpoints": []any{endpoint("public", "RegionOne", f.URL+"/v2.1"), endpoint("public", "RegionTwo", "http://two/v2.1")}},
			map[string]any{"type": "network", "endpoints": []any{endpoint("public", "RegionOne", f.URL+":9696")}},
			map[string]any{"type": "image", "endpoints": []any{endpoint("internal", "RegionOne", f.URL+"/image")}},
			map[string]any{"type": "volumev3", "endpoints": []any{endpoint("public", "RegionOne", f.URL+"/v3/p1")}},
			map[string]any{"type": "load-balancer", "endpoints": []any{endpoint("public", "RegionOne", f.URL+"/lb/v2.0")}},
		},
	}})
}

func (f *fake) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.valid = "none"
}

// open writes a clouds.yaml for the fake.
func (f *fake) open(t *testing.T, cfg Config, entry string) (*Cloud, *bytes.Buffer) {
	t.Helper()
	dir := bare(t)
	if !strings.Contains(entry, "region") {
		entry += "    region_name: RegionOne\n"
	}
	cfg.Cloud = "c"
	cfg.CloudsFile = write(t, filepath.Join(dir, "clouds.yaml"), fmt.Sprintf(
		"clouds:\n  c:\n    auth: {auth_url: %s/v3, username: u, password: secret, project_name: demo}\n%s", f.URL, entry))
	var log bytes.Buffer
	c, err := Open(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, &log
}

func list(ctx context.Context, c *Cloud) error {
	client, err := c.Compute(ctx)
	if err != nil {
		return err
	}
	_, err = Pages(ctx, servers.List(client, nil), servers.ExtractServers, "list")
	return err
}

func TestATokenIsMadeWhenItIsNeededAndRenewed(t *testing.T) {
	f := newFake(t, false)
	c, _ := f.open(t, Config{}, "")
	if n := f.logins.Load(); n != 0 {
		t.Fatalf("%d logins before anything was asked", n)
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if err := list(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := f.logins.Load(); n != 1 {
		t.Errorf("%d logins for calls at the same time", n)
	}
	f.revoke()
	for range 8 {
		wait.Go(func() {
			if err := list(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := f.logins.Load(); n < 2 || n > 9 {
		t.Errorf("%d logins after the token was revoked", n)
	}
	if id, name, err := c.Project(t.Context()); id != "p1" || name != "demo" || err != nil {
		t.Errorf("Project() = %q, %q, %v", id, name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.versions {
		if v != "compute 2.72" {
			t.Fatalf("asked for %q", v)
		}
	}
}

func TestAWrongPasswordIsPermanent(t *testing.T) {
	f := newFake(t, false)
	c, _ := f.open(t, Config{}, "")
	f.password = "other"
	err := list(t.Context(), c)
	if scaling.ClassOf(err) != scaling.Permanent || !strings.Contains(err.Error(), "user name, password") || !strings.Contains(err.Error(), `cloud "c"`) {
		t.Errorf("%v (%s)", err, scaling.ClassOf(err))
	}
	f.password = "secret"
	if err := list(t.Context(), c); err != nil {
		t.Fatalf("it is right again: %v", err)
	}
	f.revoke()
	f.password = "other"
	if err := list(t.Context(), c); scaling.ClassOf(err) != scaling.Permanent {
		t.Errorf("a renewal with a wrong password: %v (%s)", err, scaling.ClassOf(err))
	}
}

func TestAnIdentityServiceThatIsNoneIsNoMissingObject(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	c, _ := (&fake{Server: server}).open(t, Config{}, "")
	if err := list(t.Context(), c); scaling.ClassOf(err) != scaling.Permanent {
		t.Errorf("%v (%s)", err, scaling.ClassOf(err))
	}
}

func TestWhichEndpointIsTaken(t *testing.T) {
	f := newFake(t, false)
	c, _ := f.open(t, Config{Endpoints: map[string]string{Network: "http://10.20.20.1:9696"}}, "    region_name: RegionOne\n")
	network, err := c.Network(t.Context())
	if err != nil || network.ServiceURL("networks") != "http://10.20.20.1:9696/v2.0/networks" {
		t.Errorf("%v, %v", network, err)
	}
	volume, err := c.BlockStorage(t.Context())
	if err != nil || volume.ServiceURL("volumes") != f.URL+"/v3/p1/volumes" {
		t.Errorf("%v, %v", volume, err)
	}
	balancer, err := c.LoadBalancer(t.Context())
	if err != nil || balancer.ServiceURL("lbaas") != f.URL+"/lb/v2.0/lbaas" {
		t.Errorf("%v, %v", balancer, err)
	}
	if _, err = c.Image(t.Context()); err == nil || !strings.Contains(err.Error(), "no public endpoint, only internal") {
		t.Error(err)
	}
	inside, _ := f.open(t, Config{Interface: "internal"}, "")
	if image, err := inside.Image(t.Context()); err != nil || image.ServiceURL("images") != f.URL+"/image/v2/images" {
		t.Errorf("%v, %v", image, err)
	}
	several, _ := f.open(t, Config{}, "    # no region\n")
	if _, err := several.Compute(t.Context()); err == nil || !strings.Contains(err.Error(), `state region: "RegionOne", "RegionTwo"`) {
		t.Error(err)
	}
	wrong, _ := f.open(t, Config{Region: "RegionOnne"}, "")
	if _, err := wrong.Compute(t.Context()); err == nil || !strings.Contains(err.Error(), `did you mean "RegionOne"`) || scaling.ClassOf(err) != scaling.Permanent {
		t.Error(err)
	}
}

func TestCertificates(t *testing.T) {
	f := newFake(t, true)
	c, log := f.open(t, Config{}, "")
	if err := list(t.Context(), c); scaling.ClassOf(err) != scaling.Permanent || !strings.Contains(err.Error(), "ca_file") {
		t.Errorf("%v (%s)", err, scaling.ClassOf(err))
	}
	if log.Len() != 0 {
		t.Errorf("logged: %s", log)
	}
	c, log = f.open(t, Config{}, "    verify: false\n")
	for range 2 {
		if err := list(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(log.String(), "certificates are not verified"); n != 1 {
		t.Errorf("%d warnings: %s", n, log)
	}
	authority := write(t, filepath.Join(t.TempDir(), "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})))
	c, log = f.open(t, Config{CAFile: authority}, "")
	if err := list(t.Context(), c); err != nil || log.Len() != 0 {
		t.Errorf("%v, logged %q", err, log)
	}
	c, _ = f.open(t, Config{}, "    cacert: "+authority+"\n")
	if err := list(t.Context(), c); err != nil {
		t.Error(err)
	}
}

// silent accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		var all []net.Conn
		for {
			conn, err := listener.Accept()
			if err != nil {
				for _, c := range all {
					c.Close()
				}
				return
			}
			all = append(all, conn)
		}
	})
	t.Cleanup(func() { listener.Close(); wait.Wait() })
	return "http://" + listener.Addr().String()
}

func TestAnEndpointThatHangsHoldsNobodyUp(t *testing.T) {
	f := newFake(t, false)
	hangs := silent(t)
	c, _ := f.open(t, Config{Timeout: time.Second, Endpoints: map[string]string{Compute: hangs, Network: hangs}}, "")
	if _, _, err := c.Project(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err := list(soon, c)
	if took := time.Since(begun); took > 10*time.Second || scaling.ClassOf(err) != scaling.Temporary || !scaling.Interrupted(err) {
		t.Errorf("the caller's time: %v after %v (%s)", err, took, scaling.ClassOf(err))
	}
	err = list(t.Context(), c)
	if took := time.Since(begun); took > 20*time.Second || scaling.ClassOf(err) != scaling.Temporary || scaling.Interrupted(err) || !strings.Contains(err.Error(), "timeout of 1s") {
		t.Errorf("the request's time: %v after %v (%s)", err, took, scaling.ClassOf(err))
	}
	network, err := c.Network(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = Error(networks.Create(t.Context(), network, networks.CreateOpts{Name: "x"}).Err, "create")
	if scaling.ClassOf(err) != scaling.Unknown {
		t.Errorf("a change without an answer: %v (%s)", err, scaling.ClassOf(err))
	}

	late, _ := (&fake{Server: &httptest.Server{URL: hangs}}).open(t, Config{}, "")
	soon, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			if err := list(soon, late); scaling.ClassOf(err) != scaling.Temporary {
				t.Errorf("an identity service that hangs: %v (%s)", err, scaling.ClassOf(err))
			}
		})
	}
	wait.Wait()
}

func TestAnAnswerThatBreaksOffIsLost(t *testing.T) {
	f := newFake(t, false)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
		}
		io.WriteString(w, `{"network": {`)
	}))
	t.Cleanup(server.Close)
	c, _ := f.open(t, Config{Endpoints: map[string]string{Network: server.URL}}, "")
	network, err := c.Network(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]scaling.Class{http.MethodGet: scaling.Temporary, http.MethodPost: scaling.Unknown} {
		var into any
		_, err := network.Request(t.Context(), method, network.ServiceURL("x"), &gophercloud.RequestOpts{JSONResponse: &into}) //nolint:bodyclose // gophercloud closes what it decodes
		if err = Error(err, "ask"); scaling.ClassOf(err) != want {
			t.Errorf("%s: %v, class %s, want %s", method, err, scaling.ClassOf(err), want)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	f := newFake(t, false)
	c, _ := f.open(t, Config{Endpoints: map[string]string{Compute: "http://127.0.0.1:1/v2.1"}}, "")
	client, err := c.Compute(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = Error(servers.Delete(t.Context(), client, "x").ExtractErr(), "delete")
	if scaling.ClassOf(err) != scaling.Temporary || !strings.Contains(err.Error(), "not sent") {
		t.Errorf("%v (%s)", err, scaling.ClassOf(err))
	}
}
