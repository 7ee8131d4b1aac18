package manpage_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/scalehook/scalehook/internal/manpage"
)

func TestAPageSaysWhatTheHelpSays(t *testing.T) {
	f := pflag.NewFlagSet("x", pflag.ContinueOnError)
	f.StringP("output", "o", "table", "how to `FORMAT` it")
	f.Bool("off", false, "take it off")
	f.String("secret", "", "not shown")
	if err := f.MarkHidden("secret"); err != nil {
		t.Fatal(err)
	}
	p := manpage.Page{
		Command: "scalehook do-it", Short: "Do it - or don't", Arguments: "GROUP [NAME…]", Options: f,
		Long:     "Do it, with\n.dots and \\slashes:\n\n  --off   keeps\n          columns\nAnd on.\n\nAgain.",
		Sections: []manpage.Section{{Title: "Exit status", Items: []manpage.Item{{"0", "done"}}}},
		SeeAlso:  []string{"scalehook", "scalehook-serve"}, Version: "1.2.3", Date: time.Unix(0, 0).UTC(),
	}
	const want = `.TH "SCALEHOOK\-DO\-IT" 1 "1970\-01\-01" "scalehook 1.2.3" "scalehook manual"
.ad l
.SH NAME
scalehook\-do\-it \- Do it \- or don\(aqt
.SH SYNOPSIS
\fBscalehook do\-it\fR GROUP [NAME\[u2026]]
.SH DESCRIPTION
Do it, with
\&.dots and \eslashes:
.PP
.RS 2
.nf
\-\-off   keeps
        columns
.fi
.RE
And on.
.PP
Again.
.SH OPTIONS
.TP
\fB\-\-off\fR
take it off
.TP
\fB\-o\fR, \fB\-\-output\fR \fIFORMAT\fR
how to FORMAT it (default table)
.SH "EXIT STATUS"
.TP
\fB0\fR
done
.SH SEE ALSO
\fBscalehook\fR(1),
\fBscalehook\-serve\fR(1)
`
	if diff := cmp.Diff(want, string(p.Bytes())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheDateIsThatOfTheBuild(t *testing.T) {
	for name, c := range map[string]struct{ env, build, want string }{
		"the environment's": {"86400", "20260102-03:04:05", "1970-01-02"},
		"the build's":       {"", "20260102-03:04:05", "2026-01-02"},
		"none":              {"", "", "1970-01-01"},
	} {
		got, err := manpage.Date(func(string) string { return c.env }, c.build)
		if err != nil || got.Format(time.DateOnly) != c.want {
			t.Errorf("%s: %v, %v; want %s", name, got, err, c.want)
		}
	}
	if _, err := manpage.Date(func(string) string { return "today" }, ""); err == nil {
		t.Error("a date that is none was taken")
	}
}
