// Package manpage writes manual pages from what a program's --help says. The text
// of a help is kept as it is: paragraphs are filled, indented lines are not.
package manpage

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Page is one manual page of section 1.
type Page struct {
	Command   string // as it is typed, like "scalehook host apply"
	Arguments string // what comes after it
	Short     string // one line
	Long      string // as in --help; empty: Short
	Options   *pflag.FlagSet
	Example   string
	// Sections come after the options, in this order.
	Sections []Section
	// SeeAlso are names of other pages of section 1.
	SeeAlso []string
	Version string
	Date    time.Time
}

// Section is a titled text. Its items come after the text.
type Section struct {
	Title, Text string
	Items       []Item
}

// Item is a word with its meaning.
type Item struct{ Word, Text string }

// Date is when the program was made: what SOURCE_DATE_EPOCH says, else what the
// build noted, as the time of the build or of the commit, else the epoch's begin.
func Date(getenv func(string) string, buildDate string) (time.Time, error) {
	if text := getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q; it has to be a number of seconds", text)
		}
		return time.Unix(seconds, 0).UTC(), nil
	}
	for _, layout := range []string{"20060102-15:04:05", time.RFC3339} {
		if at, err := time.Parse(layout, buildDate); err == nil {
			return at.UTC(), nil
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return at.UTC(), nil
			}
		}
	}
	return time.Unix(0, 0).UTC(), nil
}

// Name is what the page is found by: scalehook-host-apply.
func (p Page) Name() string { return strings.ReplaceAll(p.Command, " ", "-") }

// Bytes returns the page. The same page is the same bytes.
func (p Page) Bytes() []byte {
	var b bytes.Buffer
	program, _, _ := strings.Cut(p.Command, " ")
	fmt.Fprintf(&b, ".TH %s 1 %s %s %s\n", quoted(strings.ToUpper(p.Name())), quoted(p.Date.Format("2006-01-02")),
		quoted(strings.TrimSpace(program+" "+p.Version)), quoted(program+" manual"))
	b.WriteString(".ad l\n") // long addresses make holes in adjusted lines
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(p.Name()), escape(p.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fR %s\n", escape(p.Command), escape(p.Arguments))
	b.WriteString(".SH DESCRIPTION\n")
	if p.Long == "" {
		p.Long = p.Short + "."
	}
	text(&b, p.Long)
	options(&b, p.Options)
	if p.Example != "" {
		b.WriteString(".SH EXAMPLES\n")
		text(&b, p.Example)
	}
	for _, s := range p.Sections {
		if s.Text == "" && len(s.Items) == 0 {
			continue
		}
		fmt.Fprintf(&b, ".SH %s\n", quoted(strings.ToUpper(s.Title)))
		text(&b, s.Text)
		for _, i := range s.Items {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n", escape(i.Word))
			text(&b, i.Text)
		}
	}
	if len(p.SeeAlso) > 0 {
		b.WriteString(".SH SEE ALSO\n")
		for i, name := range p.SeeAlso {
			comma := ","
			if i == len(p.SeeAlso)-1 {
				comma = ""
			}
			fmt.Fprintf(&b, "\\fB%s\\fR(1)%s\n", escape(name), comma)
		}
	}
	return b.Bytes()
}

func options(b *bytes.Buffer, flags *pflag.FlagSet) {
	if flags == nil || !flags.HasAvailableFlags() {
		return
	}
	b.WriteString(".SH OPTIONS\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "\\fB" + escape("--"+f.Name) + "\\fR"
		if f.Shorthand != "" {
			name = "\\fB" + escape("-"+f.Shorthand) + "\\fR, " + name
		}
		if value != "" {
			name += " \\fI" + escape(value) + "\\fR"
		}
		switch f.DefValue {
		case "", "0", "0s", "false", "[]":
		default:
			usage += " (default " + strings.Trim(f.DefValue, "[]") + ")"
		}
		fmt.Fprintf(b, ".TP\n%s\n", name)
		text(b, usage)
	})
}

// text writes paragraphs. What is indented is left as it is.
func text(b *bytes.Buffer, s string) {
	kept := false
	keep := func(on bool) {
		switch {
		case on && !kept:
			b.WriteString(".RS 2\n.nf\n")
		case !on && kept:
			b.WriteString(".fi\n.RE\n")
		}
		kept = on
	}
	gap := false
	for line := range strings.Lines(s) {
		line = strings.ReplaceAll(strings.TrimRight(line, " \t\n"), "\t", "    ")
		if line == "" {
			gap = true
			continue
		}
		indented := strings.HasPrefix(line, " ")
		if gap && kept && indented {
			b.WriteString("\n")
		} else if gap {
			keep(false)
			b.WriteString(".PP\n")
		}
		gap = false
		keep(indented)
		b.WriteString(escape(strings.TrimPrefix(line, "  ")) + "\n")
	}
	keep(false)
}

// escape makes text of roff's own characters, and of those beyond ASCII.
func escape(s string) string {
	var b strings.Builder
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		b.WriteString(`\&`)
	}
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r > 126:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// quoted is one argument of a request.
func quoted(s string) string { return `"` + strings.ReplaceAll(escape(s), `"`, `\(dq`) + `"` }
