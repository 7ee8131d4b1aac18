package firstboot

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

// Data is what a template can use. Its field names are the template language;
// a new one may be added, none may change.
type Data struct {
	// ID is the instance's id, Group its group, Name its name, Number the number
	// in the name.
	ID, Group, Name string
	// Hostname is what the hostname's template came to. That template itself
	// cannot use it.
	Hostname string
	Number   int
	// MAC is the hardware address of the first interface, empty where the provider
	// does not know it before the guest boots.
	MAC string
	// Address is the guest's own, empty unless scalehook gives it.
	Address string
	// Keys are public SSH keys, one line each.
	Keys []string
}

// Template is what the instances of a group read at their first boot.
type Template struct {
	// File is the user data, a text/template over Data. Empty: a #cloud-config with
	// hostname and keys. A file that is gzip is passed on as it is.
	File string
	// Hostname is a text/template over Data; empty means {{.Name}}.
	Hostname string
	// Keys are public SSH keys for the image's default user.
	Keys []string
}

// Rendered is what one guest gets.
type Rendered struct {
	Hostname string
	UserData string
}

// Kind tells what the user data is.
func (r Rendered) Kind() Kind { return KindOf(r.UserData) }

// hostnameRE admits a name with its domain.
var hostnameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// Render makes hostname and user data for one instance; Hostname and Keys of data
// are set by it. It reads the file at each call, so that a changed one holds from
// the next launch on. An error names the file, the line and what would be right.
func (t Template) Render(data Data) (Rendered, error) {
	name, err := t.hostname(data)
	if err != nil {
		return Rendered{}, err
	}
	data.Hostname, data.Keys = name, t.Keys
	userData, err := t.userData(data)
	if err != nil {
		return Rendered{}, err
	}
	return Rendered{Hostname: name, UserData: userData}, nil
}

// Check reports everything that is wrong with the template and returns what an
// instance called sample-1 would get. It reads the file.
func (t Template) Check() (Rendered, error) {
	var errs []error
	for i, key := range t.Keys {
		if strings.ContainsAny(key, "\n\r\"'") || len(strings.Fields(key)) < 2 {
			errs = append(errs, fmt.Errorf("keys[%d]: not a public SSH key on one line", i))
		}
	}
	data := Data{
		ID: "00000000-0000-4000-8000-000000000000", Group: "sample", Name: "sample-1", Number: 1,
		MAC: "52:54:00:00:00:01", Keys: t.Keys,
	}
	name, err := t.hostname(data)
	if err != nil {
		errs = append(errs, err)
		name = data.Name
	}
	data.Hostname = name
	userData, err := t.userData(data)
	if err != nil {
		errs = append(errs, err)
	}
	return Rendered{Hostname: name, UserData: userData}, errors.Join(errs...)
}

func (t Template) hostname(data Data) (string, error) {
	text := t.Hostname
	if text == "" {
		text = "{{.Name}}"
	}
	data.Hostname, data.Keys = "", t.Keys
	name, err := render("hostname", text, data)
	if err != nil {
		return "", err
	}
	if !hostnameRE.MatchString(name) {
		return "", fmt.Errorf("hostname %q renders to %q: not a hostname", text, name)
	}
	return name, nil
}

func (t Template) userData(data Data) (string, error) {
	if t.File == "" {
		return defaultUserData(data), nil
	}
	text, err := os.ReadFile(t.File)
	if err != nil {
		return "", fmt.Errorf("user_data: %w", err)
	}
	if KindOf(string(text)) == Gzip {
		return string(text), nil
	}
	return render(t.File, string(text), data)
}

// defaultUserData names the guest and lets the keys in. YAML strings are written
// as JSON strings, which they may be.
func defaultUserData(data Data) string {
	var b strings.Builder
	b.WriteString("#cloud-config\nhostname: " + strconv.Quote(data.Hostname) + "\n")
	if len(data.Keys) > 0 {
		b.WriteString("ssh_authorized_keys:\n")
		for _, key := range data.Keys {
			b.WriteString("  - " + strconv.Quote(key) + "\n")
		}
	}
	return b.String()
}

// render names every error's place as name:line:column.
func render(name, text string, data Data) (string, error) {
	parsed, err := template.New(name).Parse(text)
	if err != nil {
		return "", placed("parse", name, err)
	}
	for _, t := range parsed.Templates() {
		if t.Tree == nil {
			continue
		}
		// Rendering would find only what the sample's values lead it to.
		if err := checkFields(t.Tree, t.Root); err != nil {
			return "", err
		}
	}
	var out strings.Builder
	if err := parsed.Execute(&out, data); err != nil {
		return "", placed("render", name, err)
	}
	return out.String(), nil
}

// placed drops the package's own prefix, after which the place stands.
func placed(doing, name string, err error) error {
	text := strings.TrimPrefix(err.Error(), "template: ")
	if !strings.HasPrefix(text, name+":") {
		text = name + ": " + text
	}
	return fmt.Errorf("%s %s", doing, text)
}

// fieldNames are what may follow a dot. No field of Data has fields of its own,
// so this holds inside range and with, too.
func fieldNames() []string {
	t := reflect.TypeFor[Data]()
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Name
	}
	return names
}

// checkFields walks a parsed template and refuses fields that Data does not have.
func checkFields(tree *parse.Tree, node parse.Node) error {
	walk := func(nodes ...parse.Node) error {
		for _, n := range nodes {
			if err := checkFields(tree, n); err != nil {
				return err
			}
		}
		return nil
	}
	branch := func(b *parse.BranchNode) error {
		if b.ElseList != nil {
			return walk(b.Pipe, b.List, b.ElseList)
		}
		return walk(b.Pipe, b.List)
	}
	switch n := node.(type) {
	case *parse.ListNode:
		return walk(n.Nodes...)
	case *parse.ActionNode:
		return walk(n.Pipe)
	case *parse.IfNode:
		return branch(&n.BranchNode)
	case *parse.RangeNode:
		return branch(&n.BranchNode)
	case *parse.WithNode:
		return branch(&n.BranchNode)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			return walk(n.Pipe)
		}
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			if err := walk(c.Args...); err != nil {
				return err
			}
		}
	case *parse.ChainNode:
		return walk(n.Node)
	case *parse.FieldNode:
		return checkField(tree, n, n.Ident[0])
	case *parse.VariableNode:
		if n.Ident[0] == "$" && len(n.Ident) > 1 {
			return checkField(tree, n, n.Ident[1])
		}
	}
	return nil
}

func checkField(tree *parse.Tree, node parse.Node, field string) error {
	names := fieldNames()
	if slices.Contains(names, field) {
		return nil
	}
	place, _ := tree.ErrorContext(node)
	return fmt.Errorf("render %s: can't evaluate field %s: there are .%s", place, field, strings.Join(names, " ."))
}
