package top

import "strings"

// Key is a line of the help view: what is pressed, and what it does.
type Key struct{ Keys, Does string }

// Keys lists every key, as the help view and the documentation show them.
func Keys() []Key {
	return []Key{
		{"↑ ↓ k j", "select a group or an instance, scroll the activities"},
		{"PgUp PgDn Home End", "the same, by a page or to the end"},
		{"Tab", "go to the next list"},
		{"+", "scale out by one"},
		{"-", "scale in by one: the instance selected in its list, else by the group's policy"},
		{"p", "pause the group's automatic steps, or resume them"},
		{"h", "hand over: the instance selected in its list, else the primary"},
		{"/", "filter the list by name; Enter keeps the filter, Esc takes it off"},
		{"Ctrl-Z", "go to the background"},
		{"?", "this help"},
		{"q Ctrl-C", "quit"},
	}
}

// ascii writes the arrows as words, for terminals without them.
func (k Key) ascii() Key {
	k.Keys = strings.NewReplacer("↑", "Up", "↓", "Down").Replace(k.Keys)
	return k
}
