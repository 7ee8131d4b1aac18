package webhook_test

import (
	"reflect"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/webhook"
)

// operation is a row of the table that openapi.json is made of. Whoever adds a route
// adds a row; TestTheDocumentHasEveryRoute asks for it.
type operation struct {
	method, path string // parameters in braces
	id, tag      string
	summary      string
	more         string       // Markdown
	role         webhook.Role // empty: none is needed
	query        []parameter
	key          bool         // takes an Idempotency-Key
	body         reflect.Type // nil for none
	narrow       object       // what the body's schema has beyond its type
	must         bool         // a body has to be there
	answers      []answer
	fails        []int // codes that are answered with an error's envelope
}

// object is one of JSON.
type object map[string]any

type parameter struct {
	name, text string
	many       bool
	schema     object
}

// answer is a code with what its data is; kind is another content type than the
// envelope's. Raw data comes without the envelope.
type answer struct {
	code int
	text string
	data reflect.Type
	kind string
	raw  bool
}

func enveloped[T any](code int, text string) answer {
	return answer{code: code, text: text, data: reflect.TypeFor[T]()}
}

func plainText(code int, text string) answer {
	return answer{code: code, text: text, kind: "text/plain"}
}

// reads and orders are what every operation of the kind may fail with.
func reads(more ...int) []int { return append([]int{403, 503}, more...) }

func orders(more ...int) []int { return append([]int{400, 401, 403, 413, 415, 503}, more...) }

var (
	countSchema = object{"minimum": 0, "maximum": 10000}
	listQuery   = []parameter{
		{"limit", "at most so many; 50 without it", false, object{"type": "integer", "minimum": 1, "maximum": 1000}},
		{"before", "only those before this id, of the page that was read before", false, object{"type": "string", "maxLength": api.MaxKey}},
	}
)

// operations is the API. Fields that are set by hand here say what the types cannot.
func operations() []operation {
	group := func(o operation) operation {
		o.tag, o.role, o.fails = "orders", webhook.RoleOperator, orders(append([]int{404, 409}, o.fails...)...)
		return o
	}
	order := func(id, method, path, summary, more string, narrow object, must bool) operation {
		return group(operation{
			method: method, path: "/api/v1/groups/{group}/" + path, id: id, summary: summary, more: more, key: true,
			body: reflect.TypeFor[api.OrderRequest](), narrow: narrow, must: must, fails: []int{422},
			answers: []answer{enveloped[api.OrderResult](202, "The order is stored; what comes of it is an activity.")},
		})
	}
	none, one := object{"properties": object{"instance": false}}, object{"properties": object{"count": object{"minimum": 1, "maximum": 10000}}}
	return []operation{
		{
			method: "POST", path: "/api/v1/alertmanager", id: "notify", tag: "notifications", role: webhook.RoleAlerts,
			summary: "Take a notification of Alertmanager or of Grafana",
			more: "Where no token of the role `alerts` is configured, senders on the same machine and those with a verified client " +
				"certificate need none. What is understood and not acted on is a result per alert and no error.",
			body: reflect.TypeFor[notification](), must: true,
			answers: []answer{enveloped[api.IntakeResult](200, "Everything that was understood is stored.")},
			fails:   []int{400, 401, 403, 413, 415, 422, 503},
		},

		{
			method: "GET", path: "/api/v1/groups", id: "groups", tag: "reading", summary: "All groups, with all that is known of them",
			answers: []answer{enveloped[[]api.Group](200, "Every configured group.")}, fails: reads(),
		},
		{
			method: "GET", path: "/api/v1/groups/{group}", id: "group", tag: "reading", summary: "One group",
			answers: []answer{enveloped[api.Group](200, "The group.")}, fails: reads(404),
		},
		{
			method: "GET", path: "/api/v1/groups/{group}/instances", id: "instances", tag: "reading", summary: "A group's instances",
			answers: []answer{enveloped[[]api.Instance](200, "The instances, with CPU reading and pool member.")}, fails: reads(404),
		},
		{
			method: "GET", path: "/api/v1/groups/{group}/verdicts", id: "verdicts", tag: "reading", summary: "A group's kept verdicts",
			more:    "The newest comes first and has every gate, some before it those that failed, older ones only their reason.",
			answers: []answer{enveloped[[]api.Verdict](200, "The verdicts, newest first.")}, fails: reads(404),
		},
		{
			method: "GET", path: "/api/v1/groups/{group}/activities", id: "groupActivities", tag: "reading", summary: "A group's activities", query: listQuery,
			answers: []answer{enveloped[[]api.Activity](200, "The activities, newest first.")}, fails: reads(400, 404),
		},
		{
			method: "GET", path: "/api/v1/activities", id: "activities", tag: "reading", summary: "The activities of all groups", query: listQuery,
			answers: []answer{enveloped[[]api.Activity](200, "The activities, newest first.")}, fails: reads(400),
		},
		{
			method: "GET", path: "/api/v1/orphans", id: "orphans", tag: "reading", summary: "VMs and other things that nobody answers for",
			answers: []answer{enveloped[[]api.Orphan](200, "The orphans.")}, fails: reads(),
		},
		{
			method: "GET", path: "/api/v1/status/buildinfo", id: "buildInfo", tag: "reading", summary: "Which scalehook answers",
			answers: []answer{enveloped[api.BuildInfo](200, "The build.")}, fails: []int{403},
		},
		{
			method: "GET", path: "/api/v1/status/runtimeinfo", id: "runtimeInfo", tag: "reading", summary: "How it does",
			answers: []answer{enveloped[api.RuntimeInfo](200, "Since when it runs, and whether it is ready.")}, fails: reads(),
		},
		{
			method: "GET", path: "/api/v1/status/whoami", id: "whoami", tag: "reading", role: webhook.RoleAlerts, summary: "What the token that is sent allows",
			more:    "With `--web.insecure-operator` no token is needed, and there is no `name` without one.",
			answers: []answer{enveloped[api.Whoami](200, "The token's name, role and groups.")}, fails: []int{401, 403, 503},
		},
		{
			method: "GET", path: "/api/v1/status/config", id: "config", tag: "administration", role: webhook.RoleOperator, summary: "The configuration in force",
			more:    "As the file has it, without comments. Every secret is `<secret>`.",
			answers: []answer{enveloped[api.ConfigInfo](200, "The configuration.")}, fails: []int{401, 403, 404, 503},
		},
		{
			method: "GET", path: "/api/v1/openapi.json", id: "openAPI", tag: "reading", summary: "This document",
			answers: []answer{{code: 200, text: "An OpenAPI 3.1 document.", kind: "application/json", raw: true}}, fails: []int{403},
		},

		order("scaleOut", "POST", "scale-out", "Add instances", "One if `count` is left out.", object{"properties": object{"count": one["properties"].(object)["count"], "instance": false}}, false),
		order("scaleIn", "POST", "scale-in", "Remove instances", "One if `count` is left out; with `instance`, that one.", one, false),
		order("handover", "POST", "handover", "Replace the primary, or another instance", "A successor is in service before it leaves.", object{"properties": object{"count": false}}, false),
		order("setDesired", "PUT", "desired", "Bring the group to a number of instances", "`count` has to be there.",
			object{"required": []string{"count"}, "properties": object{"count": countSchema, "instance": none["properties"].(object)["instance"]}}, true),
		group(operation{
			method: "POST", path: "/api/v1/groups/{group}/pause", id: "pause", summary: "Keep automatic steps from beginning",
			body: reflect.TypeFor[api.PauseRequest](), answers: []answer{enveloped[api.Done](200, "It is stored.")},
		}),
		group(operation{
			method: "POST", path: "/api/v1/groups/{group}/resume", id: "resume", summary: "End a pause, a hold or a release",
			more: "With `force` also a release that is under way: marks may stay on.", body: reflect.TypeFor[api.ResumeRequest](), answers: []answer{enveloped[api.Done](200, "It is stored.")},
		}),
		group(operation{
			method: "POST", path: "/api/v1/groups/{group}/release", id: "release", summary: "Let the group's VMs and members go as they are",
			more: "Without `yes` it only says what would be let go of.", body: reflect.TypeFor[api.ReleaseRequest](),
			answers: []answer{
				enveloped[api.ReleaseResult](200, "What would be let go of, or that it was let go before."),
				enveloped[api.ReleaseResult](202, "It was begun."),
			},
		}),
		group(operation{
			method: "PUT", path: "/api/v1/groups/{group}/instances/{instance}/protection", id: "protect", summary: "Protect an instance from scale-ins, or no more",
			body: reflect.TypeFor[api.ProtectRequest](), must: true, answers: []answer{enveloped[api.Done](200, "It is stored.")},
		}),
		group(operation{
			method: "PUT", path: "/api/v1/groups/{group}/instances/{instance}/standby", id: "standby", summary: "Take an instance out of traffic, or put it back",
			body: reflect.TypeFor[api.StandbyRequest](), must: true, answers: []answer{enveloped[api.Done](200, "It is stored.")},
		}),
		{
			method: "POST", path: "/api/v1/cleanup", id: "cleanup", tag: "orders", role: webhook.RoleOperator, summary: "Remove orphans that were shown",
			body: reflect.TypeFor[api.CleanupRequest](), must: true,
			narrow:  object{"properties": object{"ids": object{"minItems": 1, "maxItems": 100}}},
			answers: []answer{enveloped[[]api.CleanupResult](202, "What became of each.")}, fails: orders(404, 409),
		},
		{
			method: "POST", path: "/api/v1/backup", id: "backup", tag: "administration", role: webhook.RoleOperator, summary: "A consistent copy of the store",
			answers: []answer{{code: 200, text: "A SQLite file.", kind: "application/vnd.sqlite3"}}, fails: []int{401, 403, 404, 415, 503},
		},
		{
			method: "POST", path: "/-/reload", id: "reload", tag: "administration", role: webhook.RoleOperator, summary: "Read the configuration again",
			more:    "Answered 403 without `--web.enable-lifecycle`. On an error the old configuration stays in force.",
			answers: []answer{enveloped[api.Reloaded](200, "The new configuration is in force, with these effects.")}, fails: []int{401, 403, 415, 500, 503},
		},
		{
			method: "GET", path: "/-/healthy", id: "healthy", tag: "administration", summary: "Whether the process answers",
			answers: []answer{plainText(200, "It does.")}, fails: []int{403},
		},
		{
			method: "GET", path: "/-/ready", id: "ready", tag: "administration", summary: "Whether every provider was asked since the start",
			answers: []answer{plainText(200, "It was."), plainText(503, "Not yet, and why.")}, fails: []int{403},
		},
		{
			method: "GET", path: "/metrics", id: "metrics", tag: "administration", summary: "Metrics, in Prometheus's formats",
			answers: []answer{plainText(200, "The page."), plainText(503, "The series could not be gathered in time.")}, fails: []int{403},
		},
		{
			method: "GET", path: "/sd/prometheus", id: "discovery", tag: "administration", summary: "The members, for Prometheus's HTTP service discovery",
			query: []parameter{
				{"group", "only this group's members", true, object{"type": "string"}},
				{"state", "only members in this state; in_service, draining and let go without it", true, object{"$ref": "#/components/schemas/Instance/properties/state"}},
				{"port", "the port to scrape in place of the group's", false, object{"type": "integer", "minimum": 1, "maximum": 65535}},
			},
			answers: []answer{{code: 200, text: "The members.", data: reflect.TypeFor[[]api.TargetGroup](), raw: true}}, fails: reads(400, 404),
		},
	}
}

// notification and nothing stand for bodies that no type of the API describes.
type (
	notification struct{}
	nothing      struct{}
)
