package config

import (
	"reflect"
	"slices"
	"strings"
)

// knownKeys lists every key that a configuration may have anywhere.
func knownKeys() []string {
	keys := map[string]bool{}
	walk(reflect.TypeFor[Config](), keys, map[reflect.Type]bool{})
	for _, p := range (Provider{}).all() {
		walk(reflect.TypeOf(p.newTemplate()), keys, map[reflect.Type]bool{})
	}
	for _, b := range (Balancer{}).all() {
		if pool := b.newPool(); pool != nil {
			walk(reflect.TypeOf(pool), keys, map[reflect.Type]bool{})
		}
	}
	list := make([]string, 0, len(keys))
	for k := range keys {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func walk(t reflect.Type, keys map[string]bool, seen map[reflect.Type]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	for f := range t.Fields() {
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if option == "inline" {
			walk(f.Type, keys, seen)
		}
		if name != "" && name != "-" {
			keys[name] = true
			walk(f.Type, keys, seen)
		}
	}
}

// nearest returns the known word that differs by at most two letters, or none.
func nearest(word string, known []string) string {
	best, distance := "", min(3, (len(word)+2)/2)
	for _, k := range known {
		if d := edits(word, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// edits counts the letters to change, add or take away.
func edits(a, b string) int {
	if max(len(a), len(b)) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
