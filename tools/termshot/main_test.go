package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpansHaveTheStyleOfTheirSequences(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       [][]span
	}{
		{"plain text is one span", "web 82%", [][]span{{{0, 7, "web 82%", style{}}}}},
		{"a colour lasts until it is reset", "a\x1b[31mred\x1b[0mb", [][]span{{
			{0, 1, "a", style{}}, {1, 3, "red", style{fore: sixteen[1]}}, {4, 1, "b", style{}},
		}}},
		{"a colour lasts over the end of a line", "\x1b[1;93ma\nb", [][]span{
			{{0, 1, "a", style{fore: sixteen[11], bold: true}}},
			{{0, 1, "b", style{fore: sixteen[11], bold: true}}},
		}},
		{"one of 256, and what comes after it in the same sequence", "\x1b[38;5;196;7mx", [][]span{{{0, 1, "x", style{fore: "#ff0000", inverse: true}}}}},
		{"true colour behind the text", "\x1b[48;2;1;2;3mx\x1b[49my", [][]span{{
			{0, 1, "x", style{back: "#010203"}}, {1, 1, "y", style{}},
		}}},
		{"a wide character has two columns", "日\x1b[2mx", [][]span{{{0, 2, "日", style{}}, {2, 1, "x", style{faint: true}}}}},
		{"other sequences are left out", "\x1b[2Kab\x1b]0;title\x07c", [][]span{{{0, 3, "abc", style{}}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := read(strings.NewReader(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(span{}, style{})); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
		})
	}
}

func TestThePictureIsXMLWithEveryText(t *testing.T) {
	var out strings.Builder
	if err := run(strings.NewReader("a <b> & \x1b[7m\"c\"\x1b[0m\n\n   \x1b[31md"), &out, `top <&"`, 40); err != nil {
		t.Fatal(err)
	}
	var texts []string
	decoder, element := xml.NewDecoder(strings.NewReader(out.String())), ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, &out)
		}
		switch token := token.(type) {
		case xml.StartElement:
			element = token.Name.Local
		case xml.CharData:
			if element == "text" || element == "title" {
				texts = append(texts, string(token))
			}
		case xml.EndElement:
			element = ""
		}
	}
	if diff := cmp.Diff([]string{`top <&"`, "a\u00a0<b>\u00a0&\u00a0", `"c"`, "d"}, texts); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
	if !strings.Contains(out.String(), `viewBox="0 0 344 75"`) {
		t.Errorf("not 40 columns and 3 lines: %s", out.String())
	}
}
