package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/api"
)

// What is printed as YAML has the names, the order and the values of what is
// printed as JSON, also where a word looks like something else.
func TestYAMLSaysWhatJSONSays(t *testing.T) {
	g := api.Group{
		Name: "yes", Mode: "1e3", Desired: 2, Statuses: []string{"null", "", "a: b", "\tü\u2028\x01\"<&>", "2026-01-02"},
		Problems: []string{"two\nlines", "- dash", "#no comment", "😀"},
		Verdict:  api.Verdict{At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Would: true},
		Settings: api.Settings{High: 1e-7, Low: 0.2},
	}
	var asJSON, asYAML bytes.Buffer
	for format, out := range map[string]*bytes.Buffer{formatJSON: &asJSON, formatYAML: &asYAML} {
		if err := show(out, format, []api.Group{g}, listGroups); err != nil {
			t.Fatal(err)
		}
	}
	var want, got any
	if err := json.Unmarshal(asJSON.Bytes(), &want); err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(asYAML.Bytes(), &root); err != nil {
		t.Fatalf("%v\n%s", err, &asYAML)
	}
	if err := root.Decode(&got); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-json +yaml):\n%s\n%s", diff, &asYAML)
	}
	if !bytes.HasPrefix(asYAML.Bytes(), []byte("- name: \"yes\"\n")) {
		t.Errorf("the order or the style is another:\n%s", &asYAML)
	}
}
