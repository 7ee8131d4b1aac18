package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/schemagen"
	"github.com/scalehook/scalehook/webhook"
)

var update = flag.Bool("update", false, "rewrite openapi.json")

// TestTheDocumentIsThatOfTheTypes keeps openapi.json current.
func TestTheDocumentIsThatOfTheTypes(t *testing.T) {
	want := document(t)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(webhook.OpenAPI())); diff != "" {
		t.Errorf("openapi.json is out of date: go test ./webhook -run TestTheDocument -update (-want +got):\n%s", diff)
	}
}

// document makes the OpenAPI document.
func document(t *testing.T) []byte {
	t.Helper()
	paths := map[string]map[string]any{}
	types := []reflect.Type{}
	for _, o := range operations() {
		if paths[o.path] == nil {
			paths[o.path] = map[string]any{}
			if ps := pathParameters(o.path); len(ps) > 0 {
				paths[o.path]["parameters"] = ps
			}
		}
		paths[o.path][strings.ToLower(o.method)] = describe(o)
		for _, typ := range append(dataTypes(o), o.body) {
			if typ != nil && typ.PkgPath() != reflect.TypeFor[operation]().PkgPath() {
				types = append(types, typ)
			}
		}
	}
	schemas := schemas(t, types)
	var doc bytes.Buffer
	enc := json.NewEncoder(&doc)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(struct {
		OpenAPI    string                    `json:"openapi"`
		Info       object                    `json:"info"`
		Servers    []object                  `json:"servers"`
		Tags       []object                  `json:"tags"`
		Paths      map[string]map[string]any `json:"paths"`
		Components object                    `json:"components"`
	}{
		"3.1.0",
		object{
			"title": "scalehook", "version": "v1",
			"description": "Autoscaling groups for VMs. Fields and values are only ever added: ignore those that you do not know. docs/api.md explains it.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		[]object{{"url": "http://127.0.0.1:10070", "description": "The address that the server listens on unless told otherwise."}},
		[]object{
			{"name": "notifications", "description": "What Alertmanager sends."},
			{"name": "reading", "description": "What there is, and why."},
			{"name": "orders", "description": "Manual actions: they skip conditions and cooldown, never bounds, protection, budgets or drain."},
			{"name": "administration", "description": "The server itself."},
		},
		paths,
		object{
			"schemas":   schemas,
			"responses": responses(),
			"securitySchemes": object{"bearer": object{
				"type": "http", "scheme": "bearer", "description": "A token of the configuration's `tokens`; its role is named where one is needed.",
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(doc.Bytes(), []byte(`"#/$defs/`), []byte(`"#/components/schemas/`))
}

var parameterRE = regexp.MustCompile(`\{(\w+)\}`)

func pathParameters(path string) []object {
	what := map[string]string{"group": "the group's name", "instance": "the instance's id, or its VM's name"}
	var all []object
	for _, m := range parameterRE.FindAllStringSubmatch(path, -1) {
		all = append(all, object{"name": m[1], "in": "path", "required": true, "description": what[m[1]], "schema": object{"type": "string", "minLength": 1}})
	}
	return all
}

func dataTypes(o operation) []reflect.Type {
	var all []reflect.Type
	for _, a := range o.answers {
		typ := a.data
		if typ != nil && typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		all = append(all, typ)
	}
	return all
}

// failures are the answers that are errors, by code.
func failures() map[int]string {
	return map[int]string{
		400: "The body, a parameter or the key is wrong (`bad_data`).",
		401: "No token, or a wrong one (`unauthorized`).",
		403: "The token's role or groups, the Host header, the origin, or it is switched off (`forbidden`).",
		404: "No such group or instance, or this server cannot do it (`not_found`).",
		409: "Beyond bounds, protected, under way, or the group only observes (`refused`).",
		413: "The body is larger than is read (`too_large`).",
		415: "The content type is not application/json (`bad_data`).",
		422: "The key came before with another order (`key_reused`), or the payload's version is not known (`bad_data`).",
		500: "The server failed, and the log says why (`bad_data`, `internal`).",
		503: "It could not be stored or read now: try again (`unavailable`).",
	}
}

func responses() object {
	all := object{}
	for code, text := range failures() {
		all[strconv.Itoa(code)] = object{"description": text, "content": object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Error"}}}}
	}
	return all
}

// describe makes the operation's object.
func describe(o operation) object {
	out := object{"operationId": o.id, "tags": []string{o.tag}, "summary": o.summary}
	if o.more != "" {
		out["description"] = o.more
	}
	var parameters []object
	for _, p := range o.query {
		schema := p.schema
		if p.many {
			schema = object{"type": "array", "items": schema}
		}
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.text, "schema": schema})
	}
	if o.key {
		parameters = append(parameters, object{
			"name": api.IdempotencyKey, "in": "header", "description": "Within 24 h the same order with the same key is answered as the first was.",
			"schema": object{"type": "string", "maxLength": api.MaxKey},
		})
	}
	if parameters != nil {
		out["parameters"] = parameters
	}
	switch o.role {
	case "":
		out["security"] = []object{}
	case webhook.RoleAlerts:
		out["security"] = []object{{"bearer": []string{string(webhook.RoleAlerts), string(webhook.RoleOperator)}}, {}}
	case webhook.RoleOperator:
		out["security"] = []object{{"bearer": []string{string(o.role)}}}
	}
	if o.body != nil {
		schema := object{"$ref": "#/components/schemas/" + o.body.Name()}
		switch o.body {
		case reflect.TypeFor[notification]():
			schema = payloadSchema()
		case reflect.TypeFor[nothing]():
			schema = object{"type": "object", "properties": object{}, "additionalProperties": false}
		}
		maps.Copy(schema, o.narrow)
		out["requestBody"] = object{"required": o.must, "content": object{"application/json": object{"schema": schema}}}
	}
	answers := object{"default": object{"$ref": "#/components/responses/500"}}
	for _, code := range o.fails {
		answers[strconv.Itoa(code)] = object{"$ref": "#/components/responses/" + strconv.Itoa(code)}
	}
	for _, a := range o.answers {
		r := object{"description": a.text, "content": object{contentType(a): object{"schema": dataSchema(a)}}}
		if o.key {
			r["headers"] = object{"Idempotency-Replayed": object{"description": "`true` where the same order came before with the same key.", "schema": object{"type": "string", "const": "true"}}}
		}
		answers[strconv.Itoa(a.code)] = r
	}
	out["responses"] = answers
	return out
}

func contentType(a answer) string {
	if a.kind != "" {
		return a.kind
	}
	return "application/json"
}

func dataSchema(a answer) object {
	switch {
	case a.kind == "text/plain":
		return object{"type": "string"}
	case a.kind == "application/json":
		return object{"type": "object"}
	case a.kind != "":
		return object{}
	}
	data := object{"$ref": "#/components/schemas/" + a.data.Name()}
	if a.data.Kind() == reflect.Slice {
		data = object{"type": "array", "items": object{"$ref": "#/components/schemas/" + a.data.Elem().Name()}}
	}
	if a.raw {
		return data
	}
	return object{
		"type": "object", "required": []string{"status", "data"},
		"properties": object{
			"status": object{"const": api.StatusSuccess}, "data": data,
			"warnings": object{"type": "array", "items": object{"type": "string"}, "description": "What a person should know though the request succeeded."},
		},
	}
}

// payloadSchema is what is read of a notification.
func payloadSchema() object {
	return object{
		"type": "object", "required": []string{"version"}, "additionalProperties": true,
		"description": "The payload of Alertmanager's webhook or of Grafana's. What is not named here is ignored.",
		"properties": object{
			"version": object{"enum": []any{"4", "1", 4, 1}, "description": "4 is Alertmanager's, 1 is Grafana's."},
			"alerts": object{"type": []string{"array", "null"}, "maxItems": 10000, "items": object{
				"type": "object", "additionalProperties": true, "properties": object{
					"status":      object{"type": "string", "description": "firing or resolved; another is answered no_signal."},
					"fingerprint": object{"type": "string"},
					"startsAt":    object{"type": "string", "format": "date-time"},
					"labels": object{
						"type": []string{"object", "null"}, "additionalProperties": object{"type": "string"},
						"description": "scaling_group and scalehook_signal (high or low) choose what the alert means.",
					},
				},
			}},
			"truncatedAlerts": object{"description": "How many alerts the sender left out."},
		},
	}
}

func words[T ~string](list ...T) []string {
	out := make([]string, 0, len(list))
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

// schemas makes the schemas of the API's types.
func schemas(t *testing.T, of []reflect.Type) jsonschema.Definitions {
	t.Helper()
	all, err := schemagen.ReflectJSON(schemagen.Options{
		Root: "..",
		Map: func(t reflect.Type) *jsonschema.Schema {
			if t == reflect.TypeFor[api.Duration]() {
				return &jsonschema.Schema{Type: "string", Pattern: `^-?(0|([0-9.]+(ns|us|µs|ms|s|m|h))+)$`, Description: "A time with its unit, like 90s or 1h30m."}
			}
			return nil
		},
		Text: func(reflect.Type, string) string { return "" },
	}, of...)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range all {
		if !strings.HasSuffix(name, "Request") {
			s.AdditionalProperties = nil // fields are added
		}
	}
	e := &schemagen.Edit{Schema: &jsonschema.Schema{Definitions: all}}
	enumerate(e)
	if err := errors.Join(e.Errs...); err != nil {
		t.Fatal(err)
	}
	all["Error"] = &jsonschema.Schema{
		Type: "object", Description: "The envelope of an error.", Required: []string{"status", "errorType", "error"}, Properties: jsonschema.NewProperties(),
	}
	all["Error"].Properties.Set("status", &jsonschema.Schema{Const: api.StatusError})
	all["Error"].Properties.Set("errorType", &jsonschema.Schema{Type: "string", Description: "Tells errors apart for programs.", Enum: []any{
		api.ErrorBadData, api.ErrorUnauthorized, api.ErrorForbidden, api.ErrorNotFound, api.ErrorTooLarge,
		api.ErrorRefused, api.ErrorKeyReused, api.ErrorUnavailable, api.ErrorInternal,
	}})
	all["Error"].Properties.Set("error", &jsonschema.Schema{Type: "string", Description: "Tells people what is wrong."})
	return all
}

// enumerate says which words a field may have.
func enumerate(e *schemagen.Edit) {
	signals := words(scaling.High, scaling.Low)
	e.Enum("Group.mode", words(scaling.ModeObserve, scaling.ModeScaleOutOnly, scaling.ModeFull)...)
	e.Enum("Group.statuses[]", words(scaling.Statuses()...)...)
	e.Enum("Settings.victim", words(scaling.VictimNewest, scaling.VictimOldest, scaling.VictimLeastBusy)...)
	e.Enum("Settings.on_remove", words(scaling.OnRemoveKeep, scaling.OnRemoveDelete)...)
	e.Enum("Condition.signal", signals...)
	e.Enum("Evidence.signal", signals...)
	e.Enum("Evidence.state", words(scaling.EvidenceFiring, scaling.EvidenceSuppressed, scaling.EvidenceAbsent, scaling.EvidenceUnreachable)...)
	e.Enum("Instance.state", words(scaling.InstanceStates()...)...)
	power := words(scaling.PowerUnknown, scaling.PowerRunning, scaling.PowerPaused, scaling.PowerStopped, scaling.PowerCrashed)
	e.Enum("Instance.power", power...)
	e.Enum("Orphan.power", power...)
	e.Enum("Member.state", words(scaling.MemberJoining, scaling.MemberReady, scaling.MemberDraining, scaling.MemberLeaving)...)
	e.Enum("Member.health", words(scaling.HealthUnknown, scaling.HealthUp, scaling.HealthDown)...)
	e.Enum("Activity.kind", words(scaling.ActivityKinds()...)...)
	e.Enum("Activity.status", words(scaling.ActivityPending, scaling.ActivityRunning, scaling.ActivityDone, scaling.ActivityUndone, scaling.ActivityFailed)...)
	e.Enum("Cause.kind", words(scaling.CauseAlert, scaling.CauseManual, scaling.CauseBounds, scaling.CauseConfig, scaling.CauseHealth)...)
	e.Enum("Cause.signal", signals...)
	e.Enum("Order.kind", words(scaling.OrderScaleOut, scaling.OrderScaleIn, scaling.OrderHandover, scaling.OrderSetDesired)...)
	e.Enum("Verdict.action", append([]string{""}, words(scaling.Actions()...)...)...) // "" before the first decision
	e.Enum("Gate.action", words(scaling.Actions()...)...)
	e.Enum("Orphan.kind", words(scaling.KindVM, scaling.KindMember, scaling.KindParts, scaling.KindSnapshot, scaling.KindAddress)...)
	e.Enum("Orphan.status", words(scaling.OrphanSeen, scaling.OrphanQuarantined, scaling.OrphanReleased, scaling.OrphanMember, scaling.OrphanUnmarked)...)
	e.Enum("PauseRequest.direction", "", "out", "in", "both")
	e.Enum("Effect.kind", words(scaling.EffectAdded, scaling.EffectReleased, scaling.EffectRenamed, scaling.EffectPlacement, scaling.EffectMode, scaling.EffectLaunch,
		scaling.EffectRemove, scaling.EffectAdopt, scaling.EffectBounds, scaling.EffectTemplate, scaling.EffectSettings)...)
	e.Enum("AlertResult.result", words(scaling.NotifyAccepted, scaling.NotifyRenewed, scaling.NotifyResolved, scaling.NotifyDuplicate, scaling.NotifyUnknownGroup,
		scaling.NotifyNotAllowed, scaling.NotifyNoSignal, scaling.NotifyHeartbeat, scaling.NotifyPaused, scaling.NotifyNotConfirmed)...)
	e.Range("Member.sessions", "-1", "")
}

// TestTheDocumentIsOpenAPI holds it against the OpenAPI Initiative's schema.
func TestTheDocumentIsOpenAPI(t *testing.T) {
	read := func(text []byte) any {
		v, err := validator.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	text, err := os.ReadFile("testdata/openapi/schema-3.1.json")
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	const name = "https://spec.openapis.org/oas/3.1/schema/2021-04-15"
	if err := c.AddResource(name, read(text)); err != nil {
		t.Fatal(err)
	}
	meta, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := meta.Validate(read(webhook.OpenAPI())); err != nil {
		t.Error(err)
	}
	wrong := bytes.Replace(webhook.OpenAPI(), []byte(`"operationId"`), []byte(`"operation"`), 1)
	if meta.Validate(read(wrong)) == nil {
		t.Error("a misspelt key passes")
	}
	ids := map[string]bool{}
	for _, o := range operations() {
		if ids[o.id] {
			t.Errorf("two operations are called %s", o.id)
		}
		ids[o.id] = true
	}
	var names struct{ Components map[string]map[string]any }
	if err := json.Unmarshal(webhook.OpenAPI(), &names); err != nil {
		t.Fatal(err)
	}
	for kind, all := range names.Components {
		for name := range all {
			if kind != "securitySchemes" && name != "500" && !bytes.Contains(webhook.OpenAPI(), []byte(`"#/components/`+kind+`/`+name+`"`)) {
				t.Errorf("nothing refers to %s %s", kind, name)
			}
		}
	}
}

// TestTheDocumentHasEveryRoute and no other.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	opts := options(t, newEngine())
	opts.Pprof = true
	var served []string
	for _, r := range newServer(t, opts).Routes() {
		_, path, _ := strings.Cut(r, " ")
		if inAPI(path) {
			served = append(served, regexp.MustCompile(`:(\w+)`).ReplaceAllString(r, "{$1}"))
		}
	}
	slices.Sort(served)
	if diff := cmp.Diff(served, described(t).Operations()); diff != "" {
		t.Errorf("the routes are not those of the table in operations_test.go (-served +table):\n%s", diff)
	}
}

// inAPI tells what programs ask for from the page and pprof, which are for people.
func inAPI(path string) bool {
	return slices.ContainsFunc([]string{api.Prefix + "/", "/-/", "/sd/", "/metrics"}, func(p string) bool { return strings.HasPrefix(path, p) })
}

// described is the document, which every answer that a test of this package gets is
// held against.
func described(t testing.TB) *schemagen.OpenAPI {
	t.Helper()
	o, err := theDocument()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

var theDocument = sync.OnceValues(func() (*schemagen.OpenAPI, error) { return schemagen.NewOpenAPI(webhook.OpenAPI()) })

// holdAgainst checks an exchange with the API. Only from what a fuzz test makes up is
// more taken than the document lets one send: null for nothing, COUNT for count.
func holdAgainst(t testing.TB, r request, w *httptest.ResponseRecorder) {
	t.Helper()
	path, _, _ := strings.Cut(r.path, "?")
	if !inAPI(path) || w.Code == http.StatusMethodNotAllowed {
		return
	}
	e := schemagen.Exchange{Method: r.method, Path: path, Sent: []byte(r.body), Code: w.Code, Header: w.Header(), Answer: w.Body.Bytes()}
	if strings.HasPrefix(t.Name(), "Fuzz") {
		e.Sent = nil
	}
	if err := described(t).Check(e); err != nil {
		t.Error(err)
	}
}

// sample is a request that the operation answers with success, and what a server
// needs for it.
func sample(o operation) request {
	r := request{method: o.method, path: strings.NewReplacer("{group}", "web", "{instance}", "web-1").Replace(o.path), remote: "192.0.2.7:1"}
	if o.role != "" {
		r.token = operatorToken
	}
	r.body = map[string]string{
		"notify": payload("4", firing("web", "high")), "scaleOut": `{"count":2,"hold":"10m"}`, "scaleIn": `{"instance":"web-1"}`, "setDesired": `{"count":2}`,
		"pause": `{"direction":"in","for":"1h","reason":"release"}`, "resume": `{}`, "protect": `{"protected":true}`, "standby": `{"standby":true}`,
		"cleanup": `{"ids":["o1","no"]}`, "release": `{"yes":true}`,
	}[o.id]
	return r
}

// whole are the options of a server that can do everything.
func whole(t *testing.T, e *engine) webhook.Options {
	opts := options(t, e)
	opts.Cleaner = &cleaner{}
	opts.Leaver = &leaver{plan: scaling.ReleasePlan{Activity: "a1", Instances: e.views[0].Instances}}
	opts.Backup = func(_ context.Context, file string) error { return os.WriteFile(file, []byte("SQLite"), 0o600) }
	opts.Config = func() (string, error) { return "owner: test\n", nil }
	opts.Reload = func(context.Context) ([]scaling.Effect, error) {
		return []scaling.Effect{{Group: "web", Kind: scaling.EffectMode, Text: "mode: observe is full now"}}, nil
	}
	return opts
}

// provoke makes a server and a request that it answers with the code.
func provoke(t *testing.T, o operation, code int) (webhook.Options, request) {
	t.Helper()
	e := newEngine()
	opts, r := whole(t, e), sample(o)
	engineFails := func(err error) {
		e.err, opts.Cleaner, opts.Leaver = err, &cleaner{err: err}, &leaver{err: err}
		opts.Backup = func(context.Context, string) error { return err }
		opts.Config = func() (string, error) { return "", err }
	}
	switch code {
	case 200, 202:
		if o.id == "release" && code == 200 {
			r.body = ""
			opts.Leaver = &leaver{plan: scaling.ReleasePlan{Instances: e.views[0].Instances}}
		}
	case 400:
		r.body = `{"nothing":1}`
		if o.id == "notify" {
			r.body = `{"version":"4","alerts":7}`
		}
		if o.method == "GET" {
			r.body, r.path = "", r.path+"?limit=many&port=many"
		}
	case 401:
		r.token = ""
	case 403:
		if o.role == webhook.RoleOperator {
			r.token = alertsToken
		} else {
			r.host = "evil.example"
		}
	case 404:
		r.path = strings.Replace(r.path, "/web/", "/nope/", 1)
		r.path = regexp.MustCompile(`/web$`).ReplaceAllString(r.path, "/nope")
		opts.Cleaner, opts.Backup, opts.Config = nil, nil, nil
		if o.id == "release" {
			opts.Leaver = &leaver{err: scaling.ErrUnknownGroup}
		}
		if o.id == "discovery" {
			r.path += "?group=nope"
		}
	case 409:
		engineFails(fmt.Errorf("%w: planted", scaling.ErrRefused))
		if o.id == "cleanup" {
			opts.Cleaner, r.body = &cleaner{}, `{"ids":["no"]}`
		}
	case 413:
		r.body = strings.Repeat(" ", 2<<20)
	case 415:
		r.header = map[string]string{"Content-Type": "text/plain"}
		if o.id == "reload" {
			opts.Insecure, r.token = true, ""
		}
	case 422:
		engineFails(scaling.ErrKeyReused)
		if o.id == "notify" {
			r.body = `{"version":"3"}`
		}
	case 500:
		opts.Reload = func(context.Context) ([]scaling.Effect, error) { return nil, errors.New("planted") }
	case 503:
		engineFails(errors.New("planted"))
		opts.Ready = func() error { return errors.New("planted") }
		if o.id == "reload" || o.id == "whoami" {
			gone := writeToken(t, "another-token-0123456789")
			opts.Tokens = append(opts.Tokens, webhook.Token{Name: "gone", File: gone, Role: webhook.RoleOperator})
			r.token = "token-of-a-file-that-is-gone"
		}
	default:
		t.Fatalf("nobody knows how to provoke %d", code)
	}
	return opts, r
}

// TestEveryCodeOfTheDocumentIsAnswered provokes all that an operation lists. What an
// operation answers otherwise is found by holdAgainst, in every test.
func TestEveryCodeOfTheDocumentIsAnswered(t *testing.T) {
	elsewhere := []string{"metrics 503"} // TestScrapesAreBounded
	for _, o := range operations() {
		codes := slices.Clone(o.fails)
		for _, a := range o.answers {
			codes = append(codes, a.code)
		}
		for _, code := range codes {
			name := fmt.Sprintf("%s %d", o.id, code)
			if slices.Contains(elsewhere, name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				opts, r := provoke(t, o, code)
				s := newServer(t, opts)
				if name == "reload 503" || name == "whoami 503" {
					if err := os.Remove(opts.Tokens[len(opts.Tokens)-1].File); err != nil {
						t.Fatal(err)
					}
				}
				if w := send(t, s, r); w.Code != code { // send holds the answer against the document
					t.Errorf("answered %d: %s", w.Code, w.Body)
				}
			})
		}
	}
}

// TestTheDocumentSaysWhoMayDoWhat tries every operation with every kind of token.
func TestTheDocumentSaysWhoMayDoWhat(t *testing.T) {
	for _, o := range operations() {
		for _, tt := range []struct {
			token string
			may   []webhook.Role
		}{{"", nil}, {alertsToken, []webhook.Role{webhook.RoleAlerts}}, {operatorToken, []webhook.Role{webhook.RoleAlerts, webhook.RoleOperator}}} {
			s := newServer(t, whole(t, newEngine()))
			r := sample(o)
			r.token = tt.token
			w := send(t, s, r)
			refused := w.Code == http.StatusUnauthorized || w.Code == http.StatusForbidden
			if want := o.role != "" && !slices.Contains(tt.may, o.role); refused != want {
				t.Errorf("%s: with token %q answered %d, and the role is %q", o.id, tt.token, w.Code, o.role)
			}
		}
	}
}

// TestTheDocumentRefusesTheBodiesThatTheServerRefuses, where a schema can tell.
func TestTheDocumentRefusesTheBodiesThatTheServerRefuses(t *testing.T) {
	bodies := []string{
		`{}`, `{"nothing":1}`, `{"count":1}`, `{"count":0}`, `{"count":-1}`, `{"count":10001}`, `{"count":"1"}`, `{"instance":"web-1"}`, `{"instance":7}`,
		`{"hold":"10m"}`, `{"hold":10}`, `{"hold":"soon"}`, `{"direction":"in"}`, `{"direction":"up"}`, `{"for":"1h"}`, `{"for":1}`, `{"yes":true}`, `{"yes":1}`,
		`{"protected":true}`, `{"standby":false}`, `{"standby":"no"}`, `{"ids":[]}`, `{"ids":["o1"]}`, `{"ids":"o1"}`, `{"ids":["o1"],"serving":true}`, `[]`,
		`{"version":"4"}`, `{"version":"3"}`, `{"version":4}`, `{"version":"4","alerts":7}`, `{"version":"4","alerts":[{"labels":{"a":1}}]}`,
		`{"version":"4","alerts":[{"startsAt":"yesterday"}]}`, `{"version":"1","alerts":[],"truncatedAlerts":"none","more":1}`,
	}
	for _, o := range operations() {
		if o.body == nil {
			continue
		}
		for _, body := range bodies {
			r := sample(o)
			r.body = body
			e := newEngine()
			opts := whole(t, e)
			w := httptest.NewRecorder()
			req := httptest.NewRequestWithContext(t.Context(), r.method, "http://localhost"+r.path, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+operatorToken)
			newServer(t, opts).Handler().ServeHTTP(w, req)
			wrong := w.Code == http.StatusBadRequest || w.Code == http.StatusUnprocessableEntity
			if err := described(t).CheckBody(r.method, r.path, []byte(body)); (err != nil) != wrong {
				t.Errorf("%s %s: answered %d, and the document says %v", o.id, body, w.Code, err)
			}
		}
	}
}
