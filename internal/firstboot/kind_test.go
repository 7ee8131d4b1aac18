package firstboot_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/firstboot"
)

func TestTheKindIsToldByTheFirstBytes(t *testing.T) {
	for text, want := range map[string]firstboot.Kind{
		"":                        firstboot.Empty,
		" \n":                     firstboot.Empty,
		"#cloud-config\na: b\n":   firstboot.CloudConfig,
		"\n#Cloud-Config\r\n":     firstboot.CloudConfig,
		"#cloud-config-archive\n": firstboot.Other,
		"#cloud-boothook\n":       firstboot.Other,
		"#include\nhttp://a\n":    firstboot.Other,
		"#!/bin/sh\n":             firstboot.Script,
		" #!/bin/sh\n":            firstboot.Unknown,
		"Content-Type: multipart/mixed; boundary=\"x\"\n": firstboot.MIME,
		"MIME-Version: 1.0\n":                             firstboot.MIME,
		"## template: jinja\n#cloud-config\n":             firstboot.Jinja,
		"\x1f\x8b\x08\x00":                                firstboot.Gzip,
		"hostname: a\n":                                   firstboot.Unknown,
		"# a comment\n#cloud-config\n":                    firstboot.Unknown,
	} {
		if got := firstboot.KindOf(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestAnImageThatWillNotActOnItsUserDataIsWarnedOf(t *testing.T) {
	cirros, debian := firstboot.Image{Name: "CirrOS-0.6.2-x86_64-disk"}, firstboot.Image{Name: "debian-12"}
	for name, c := range map[string]struct {
		image firstboot.Image
		kind  firstboot.Kind
		want  string
	}{
		"CirrOS runs a script":                         {cirros, firstboot.Script, ""},
		"CirrOS gets none":                             {cirros, firstboot.Empty, ""},
		"CirrOS does not know a #cloud-config":         {cirros, firstboot.CloudConfig, `image "CirrOS-0.6.2-x86_64-disk" is CirrOS, which runs user data that begins with "#!" and ignores all else, and this is a #cloud-config`},
		"CirrOS does not unpack":                       {cirros, firstboot.Gzip, "and this is gzip"},
		"CirrOS does not read MIME":                    {cirros, firstboot.MIME, "and this is a MIME message"},
		"CirrOS does not render jinja":                 {cirros, firstboot.Jinja, "and this is a jinja template"},
		"CirrOS does not fetch":                        {cirros, firstboot.Other, "and this is for cloud-init"},
		"CirrOS cannot guess":                          {cirros, firstboot.Unknown, "and this is something else"},
		"CirrOS is known by its property":              {firstboot.Image{Name: "tiny", Distro: "cirros"}, firstboot.CloudConfig, "is CirrOS"},
		"others have cloud-init":                       {debian, firstboot.CloudConfig, ""},
		"others run scripts":                           {debian, firstboot.Script, ""},
		"others read MIME":                             {debian, firstboot.MIME, ""},
		"others do not know what begins with anything": {debian, firstboot.Unknown, `image "debian-12" begins with nothing that cloud-init knows`},
	} {
		t.Run(name, func(t *testing.T) {
			got := firstboot.Mismatch(c.image, c.kind)
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestNovasLimitIsThatOfTheEncodedText(t *testing.T) {
	longest := strings.Repeat("x", firstboot.NovaBytes)
	if n := base64.StdEncoding.EncodedLen(len(longest)); n > firstboot.NovaLimit {
		t.Errorf("%d bytes are %d in base64", len(longest), n)
	}
	if n := base64.StdEncoding.EncodedLen(len(longest) + 1); n <= firstboot.NovaLimit {
		t.Errorf("one byte more is %d in base64, and fits", n)
	}
	if err := firstboot.CheckNovaSize(longest); err != nil {
		t.Error(err)
	}
	if err := firstboot.CheckNovaSize(longest + "x"); err == nil || !strings.Contains(err.Error(), "user data of 49150 bytes: Nova takes at most 49149 (65535 in base64)") {
		t.Error(err)
	}
}
