package schemagen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

// OpenAPI holds requests and answers against an OpenAPI document. What the document
// does not name is an error, in answers too, where clients are told to ignore it.
type OpenAPI struct {
	doc      map[string]any
	compiler *validator.Compiler

	mu      sync.Mutex
	schemas map[string]*validator.Schema
}

// NewOpenAPI reads the document and compiles every schema in it.
func NewOpenAPI(text []byte) (*OpenAPI, error) {
	v, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("the document is no object")
	}
	closed(doc)
	o := &OpenAPI{doc: doc, compiler: validator.NewCompiler(), schemas: map[string]*validator.Schema{}}
	o.compiler.AssertFormat()
	if err := o.compiler.AddResource("openapi.json", doc); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(object(object(doc, "components"), "schemas"))) {
		if _, err := o.schema("components", "schemas", name); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// closed lets no object have more than its properties, unless it says so.
func closed(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, says := v["additionalProperties"]
		if _, has := v["properties"]; has && !says && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, c := range v {
			closed(c)
		}
	case []any:
		for _, c := range v {
			closed(c)
		}
	}
}

func object(v map[string]any, key string) map[string]any {
	o, _ := v[key].(map[string]any)
	return o
}

// Operations lists "METHOD /path/{parameter}" of every operation, in order.
func (o *OpenAPI) Operations() []string {
	var all []string
	for path, item := range object(o.doc, "paths") {
		item, _ := item.(map[string]any)
		for method := range item {
			if method != "parameters" {
				all = append(all, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(all)
	return all
}

// find returns the operation that a request is for, by its path as it was sent.
func (o *OpenAPI) find(method, path string) (place []string, op map[string]any) {
	sent := strings.Split(path, "/")
	for _, template := range slices.Sorted(maps.Keys(object(o.doc, "paths"))) {
		parts := strings.Split(template, "/")
		fits := len(parts) == len(sent)
		for k := range parts {
			fits = fits && (parts[k] == sent[k] || strings.HasPrefix(parts[k], "{") && sent[k] != "")
		}
		method = strings.ToLower(method)
		if found := object(object(object(o.doc, "paths"), template), method); fits && found != nil {
			return []string{"paths", template, method}, found
		}
	}
	return nil, nil
}

// schema compiles the schema at a place of the document once.
func (o *OpenAPI) schema(place ...string) (*validator.Schema, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	steps := []string{"openapi.json#"}
	for _, p := range place {
		steps = append(steps, strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(p))
	}
	at := strings.Join(steps, "/")
	if s := o.schemas[at]; s != nil {
		return s, nil
	}
	s, err := o.compiler.Compile(at)
	if err == nil {
		o.schemas[at] = s
	}
	return s, err
}

// Exchange is a request as it was sent, and its answer.
type Exchange struct {
	Method, Path string // without the query
	Sent         []byte
	Code         int
	Header       http.Header // of the answer
	Answer       []byte
}

// Check holds an exchange against the document: the answer's code is one that the
// operation lists, or a bug's 500, its content is as described, and what was taken is
// what the document lets one send. A path that the document does not have must not be
// found.
func (o *OpenAPI) Check(e Exchange) error {
	place, op := o.find(e.Method, e.Path)
	if op == nil {
		if e.Code < 400 {
			return fmt.Errorf("%s %s: answered %d and is not in the document", e.Method, e.Path, e.Code)
		}
		return nil
	}
	code := strconv.Itoa(e.Code)
	answer := object(object(op, "responses"), code)
	if answer == nil && e.Code == http.StatusInternalServerError {
		code, answer = "default", object(object(op, "responses"), "default")
	}
	if answer == nil {
		return fmt.Errorf("%s %s: answered %d, which the document does not list: %s", e.Method, e.Path, e.Code, clipped(e.Answer))
	}
	if ref, is := answer["$ref"].(string); is {
		place = strings.Split(strings.TrimPrefix(ref, "#/"), "/")
		answer = object(object(object(o.doc, "components"), "responses"), place[2])
	} else {
		place = append(slices.Clone(place), "responses", code)
	}
	kind, _, err := mime.ParseMediaType(e.Header.Get("Content-Type"))
	if err != nil || object(object(answer, "content"), kind) == nil {
		return fmt.Errorf("%s %s: answered %s with content type %q, which the document does not list", e.Method, e.Path, code, e.Header.Get("Content-Type"))
	}
	if kind == "application/json" {
		if err := o.holds(e.Answer, append(slices.Clone(place), "content", kind, "schema")...); err != nil {
			return fmt.Errorf("%s %s: the answer %d is not as the document has it: %w\n%s", e.Method, e.Path, e.Code, err, clipped(e.Answer))
		}
	}
	if op["requestBody"] != nil && e.Code < 300 && len(bytes.TrimSpace(e.Sent)) > 0 {
		if err := o.CheckBody(e.Method, e.Path, e.Sent); err != nil {
			return fmt.Errorf("%s %s: the server took a body that the document does not let one send: %w\n%s", e.Method, e.Path, err, clipped(e.Sent))
		}
	}
	return nil
}

// CheckBody holds a request's body alone against the document.
func (o *OpenAPI) CheckBody(method, path string, body []byte) error {
	place, op := o.find(method, path)
	if object(op, "requestBody") == nil {
		return errors.New("it has no body in the document")
	}
	return o.holds(body, append(slices.Clone(place), "requestBody", "content", "application/json", "schema")...)
}

func (o *OpenAPI) holds(body []byte, place ...string) error {
	s, err := o.schema(place...)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	return s.Validate(v)
}

func clipped(b []byte) string {
	if len(b) > 2000 {
		b = b[:2000]
	}
	return string(b)
}
