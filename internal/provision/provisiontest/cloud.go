// Package provisiontest is an OpenStack in memory, for what the real one of the lab
// cannot be brought to cheaply, and for tests of commands: what a provisioning file
// reads, and the removals and snapshots that follow. It makes no network and no
// server; the lab does.
package provisiontest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Object is something of the cloud, as its service has it in JSON.
type Object = map[string]any

// Project is the id and the name of the only project.
const Project = "demo"

// Refusal is an answer in place of the one that a request would have.
type Refusal struct {
	Status int
	Body   string
}

// Cloud has one project. The fields are set before it is asked.
type Cloud struct {
	// Objects are the things by collection: networks, subnets, routers, ports,
	// security_groups, floatingips, servers, flavors, keypairs, images.
	Objects map[string][]Object
	// Missing are the types of services that the catalog does not have.
	Missing []string
	// Refuse has the answer to requests by method and collection, like "POST servers".
	Refuse map[string]Refusal
	// Used is how many of a kind of the quotas (instances, cores, floatingip …) are
	// in use; the limit of each is 10, and 512 MiB for each instance.
	Used map[string]int
	// Roles are those of the credentials.
	Roles []string

	url   string
	dir   string
	mu    sync.Mutex
	calls []string
}

// limit is that of each kind.
const limit = 10

// New starts a cloud that has an external network, an image and a flavor, and a
// server test-vm, made for the file of File.
func New(t *testing.T) *Cloud {
	t.Helper()
	c := &Cloud{Objects: map[string][]Object{}, Refuse: map[string]Refusal{}, Used: map[string]int{}, Roles: []string{"member"}, dir: t.TempDir()}
	c.Add("networks", Object{"id": "net-ext", "name": "external", "router:external": true, "admin_state_up": true, "project_id": "admin"})
	c.Add("subnets", Object{"id": "sub-ext", "name": "external-subnet", "network_id": "net-ext", "cidr": "10.20.20.0/24", "gateway_ip": "10.20.20.1", "project_id": "admin"})
	c.Add("networks", Object{"id": "net-1", "name": "lab-net", "admin_state_up": true, "project_id": Project})
	c.Add("flavors", Object{"id": "1", "name": "m1.tiny", "vcpus": 1, "ram": 512})
	c.Add("images", Object{"id": "img-cirros", "name": "cirros", "owner": "admin", "status": "active", "created_at": "2026-01-01T00:00:00Z"})
	c.AddServer("vm-1", "test-vm", "scalehook-owner=scalehook", "scalehook-provision=lab")
	c.Add("ports", Object{"id": "port-vm-1", "network_id": "net-1", "device_id": "vm-1", "device_owner": "compute:nova", "project_id": Project})
	server := httptest.NewServer(c.mux())
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// Add puts an object there.
func (c *Cloud) Add(collection string, o Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Objects[collection] = append(c.Objects[collection], o)
}

// AddServer puts an active server there.
func (c *Cloud) AddServer(id, name string, tags ...string) {
	c.Add("servers", Object{
		"id": id, "name": name, "status": "ACTIVE", "tenant_id": Project, "tags": tags, "image": Object{"id": "img-cirros"},
		"flavor": Object{"original_name": "m1.tiny"},
	})
}

// AddSnapshot puts a snapshot of server vm-1 there, made on that day of February with
// these properties besides those that every one has.
func (c *Cloud) AddSnapshot(name string, day int, properties Object) {
	o := Object{
		"id": "id-" + name, "name": name, "owner": Project, "status": "active", "created_at": fmt.Sprintf("2026-02-%02dT00:00:00Z", day),
		"image_type": "snapshot", "instance_uuid": "vm-1", "scalehook_server": "vm-1", "scalehook_name": name, "scalehook_owner": "scalehook",
	}
	maps.Copy(o, properties)
	c.Add("images", o)
}

// OfFile are the properties of a snapshot made for the file, OfGroup those of a
// scaling group's.
func OfFile() Object { return Object{"scalehook_provision": "lab"} }

// OfGroup is OfFile for a scaling group.
func OfGroup(name string) Object { return Object{"scalehook_group": name} }

// Names are the sorted names of a collection.
func (c *Cloud) Names(collection string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []string{}
	for _, o := range c.Objects[collection] {
		out = append(out, fmt.Sprint(o["name"]))
	}
	slices.Sort(out)
	return out
}

// Calls are the requests that change something, like "DELETE images/id-a".
func (c *Cloud) Calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// File writes a provisioning file of the name lab for this cloud, whose server is
// there already, with more lines, and returns its path.
func (c *Cloud) File(t *testing.T, more string) string {
	t.Helper()
	return c.Text(t, "network: {name: lab-net}\nserver: {name: test-vm, image: cirros, flavor: m1.tiny}\n"+more)
}

// Text is File for another content after name and cloud.
func (c *Cloud) Text(t *testing.T, content string) string {
	t.Helper()
	c.CloudsFile(t)
	return c.write(t, "lab.yml", "name: lab\ncloud: {cloud: fake, clouds_file: clouds.yaml}\n"+content)
}

// CloudsFile writes a clouds.yaml with the cloud fake, and returns its path.
func (c *Cloud) CloudsFile(t *testing.T) string {
	t.Helper()
	return c.write(t, "clouds.yaml", fmt.Sprintf("clouds: {fake: {auth: {auth_url: %s/identity/v3, username: u, password: p, project_name: %s}}}\n", c.url, Project))
}

func (c *Cloud) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *Cloud) mux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /identity/v3/auth/tokens", c.login)
	mux.HandleFunc("GET /compute/v2.1/limits", c.limits)
	mux.HandleFunc("GET /network/v2.0/quotas/{project}/details.json", c.quotas)
	mux.HandleFunc("GET /network/v2.0/extensions", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, Object{}) })
	mux.HandleFunc("GET /compute/v2.1/servers/detail", func(w http.ResponseWriter, r *http.Request) { c.list(w, r, "servers") })
	mux.HandleFunc("GET /compute/v2.1/flavors/detail", func(w http.ResponseWriter, r *http.Request) { c.list(w, r, "flavors") })
	mux.HandleFunc("GET /compute/v2.1/os-keypairs", func(w http.ResponseWriter, r *http.Request) { c.list(w, r, "keypairs") })
	mux.HandleFunc("POST /compute/v2.1/servers/{id}/action", c.snapshot)
	mux.HandleFunc("GET /image/v2/images/{id}", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if o := c.find("images", r.PathValue("id")); o != nil {
			answer(w, http.StatusOK, o)
			return
		}
		absent(w)
	})
	for path, collection := range map[string]string{
		"/compute/v2.1/servers": "servers", "/image/v2/images": "images", "/network/v2.0/networks": "networks", "/network/v2.0/subnets": "subnets",
		"/network/v2.0/routers": "routers", "/network/v2.0/ports": "ports", "/network/v2.0/security-groups": "security_groups", "/network/v2.0/floatingips": "floatingips",
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { c.list(w, r, collection) })
		// What doctor asks for cannot be made.
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, _ *http.Request) {
			if !c.refused(w, "POST "+collection) {
				absent(w)
			}
		})
		mux.HandleFunc("DELETE "+path+"/{id}", func(w http.ResponseWriter, r *http.Request) { c.remove(w, r, collection) })
	}
	return mux
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-OpenStack-Nova-API-Version", "2.72")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client says what it did not get
}

func absent(w http.ResponseWriter) {
	answer(w, http.StatusNotFound, Object{"itemNotFound": Object{"code": http.StatusNotFound, "message": "could not be found"}})
}

// refused answers what is to be refused.
func (c *Cloud) refused(w http.ResponseWriter, request string) bool {
	r, is := c.Refuse[request]
	if is {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(r.Status)
		_, _ = w.Write([]byte(r.Body)) // the client says what it did not get
	}
	return is
}

func (c *Cloud) login(w http.ResponseWriter, _ *http.Request) {
	if c.refused(w, "POST tokens") {
		return
	}
	var catalog, roles []any
	for kind, path := range map[string]string{"compute": "compute/v2.1", "network": "network", "image": "image"} {
		if !slices.Contains(c.Missing, kind) {
			catalog = append(catalog, Object{"type": kind, "name": kind, "endpoints": []any{Object{"interface": "public", "region": "here", "url": c.url + "/" + path}}})
		}
	}
	for _, name := range c.Roles {
		roles = append(roles, Object{"id": name, "name": name})
	}
	w.Header().Set("X-Subject-Token", "token")
	answer(w, http.StatusCreated, Object{"token": Object{
		"project": Object{"id": Project, "name": Project}, "roles": roles, "catalog": catalog,
		"expires_at": time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z"),
	}})
}

func (c *Cloud) limits(w http.ResponseWriter, _ *http.Request) {
	if c.refused(w, "GET limits") {
		return
	}
	answer(w, http.StatusOK, Object{"limits": Object{"absolute": Object{
		"maxTotalInstances": limit, "totalInstancesUsed": c.Used["instances"],
		"maxTotalCores": limit, "totalCoresUsed": c.Used["cores"],
		"maxTotalRAMSize": limit * 512, "totalRAMUsed": c.Used["ram"],
	}}})
}

func (c *Cloud) quotas(w http.ResponseWriter, _ *http.Request) {
	q := Object{}
	for _, kind := range []string{"network", "subnet", "router", "port", "security_group", "security_group_rule", "floatingip"} {
		q[kind] = Object{"limit": limit, "used": c.Used[kind], "reserved": 0}
	}
	answer(w, http.StatusOK, Object{"quota": q})
}

func (c *Cloud) list(w http.ResponseWriter, r *http.Request, collection string) {
	if c.refused(w, "GET "+collection) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := []any{}
	for _, o := range c.Objects[collection] {
		if p := r.URL.Query().Get("project_id"); p == "" || p == o["project_id"] {
			found = append(found, o)
		}
	}
	answer(w, http.StatusOK, Object{collection: found})
}

// find returns an object; the caller holds mu.
func (c *Cloud) find(collection, id string) Object {
	for _, o := range c.Objects[collection] {
		if o["id"] == id {
			return o
		}
	}
	return nil
}

func (c *Cloud) remove(w http.ResponseWriter, r *http.Request, collection string) {
	if c.refused(w, "DELETE "+collection) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := r.PathValue("id")
	c.calls = append(c.calls, "DELETE "+collection+"/"+id)
	if c.find(collection, id) == nil {
		absent(w)
		return
	}
	c.Objects[collection] = slices.DeleteFunc(c.Objects[collection], func(o Object) bool { return o["id"] == id })
	w.WriteHeader(http.StatusNoContent)
}

// snapshot makes an image of a server, which is active at once.
func (c *Cloud) snapshot(w http.ResponseWriter, r *http.Request) {
	if c.refused(w, "POST action") {
		return
	}
	var body struct {
		CreateImage struct {
			Name     string            `json:"name"`
			Metadata map[string]string `json:"metadata"`
		} `json:"createImage"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	server, name := r.PathValue("id"), body.CreateImage.Name
	if c.find("servers", server) == nil {
		absent(w)
		return
	}
	c.calls = append(c.calls, "snapshot of "+server)
	id := strings.ReplaceAll("id-"+name, ".", "-")
	o := Object{
		"id": id, "name": name, "owner": Project, "status": "active", "created_at": time.Now().UTC().Format(time.RFC3339),
		"image_type": "snapshot", "instance_uuid": server,
	}
	for k, v := range body.CreateImage.Metadata {
		o[k] = v
	}
	c.Objects["images"] = append(c.Objects["images"], o)
	answer(w, http.StatusAccepted, Object{"image_id": id})
}
