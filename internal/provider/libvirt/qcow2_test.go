package libvirt

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestOnlyACompleteQcow2CanBeAnImage(t *testing.T) {
	good := qcow2Header{Magic: qcow2Magic, Version: 3, VirtualSize: 1 << 30}
	for name, c := range map[string]struct {
		change func(*qcow2Header)
		want   string
	}{
		"a good one":         {func(*qcow2Header) {}, ""},
		"an old one":         {func(h *qcow2Header) { h.Version, h.IncompatibleFlags = 2, 7 }, ""},
		"something else":     {func(h *qcow2Header) { h.Magic = 1 }, "no qcow2 image"},
		"a future version":   {func(h *qcow2Header) { h.Version = 4 }, "version 4"},
		"a clone":            {func(h *qcow2Header) { h.BackingOffset = 512 }, "has a backing file"},
		"an encrypted one":   {func(h *qcow2Header) { h.CryptMethod = 2 }, "encrypted"},
		"an empty one":       {func(h *qcow2Header) { h.VirtualSize = 0 }, "empty"},
		"one in use":         {func(h *qcow2Header) { h.IncompatibleFlags = qcow2Dirty }, "not closed cleanly"},
		"a corrupt one":      {func(h *qcow2Header) { h.IncompatibleFlags = qcow2Corrupt }, "corrupt"},
		"data in other file": {func(h *qcow2Header) { h.IncompatibleFlags = qcow2ExternalData }, "another file"},
	} {
		t.Run(name, func(t *testing.T) {
			h := good
			c.change(&h)
			var file bytes.Buffer
			if err := binary.Write(&file, binary.BigEndian, h); err != nil {
				t.Fatal(err)
			}
			size, err := readQcow2(&file)
			if c.want == "" && (err != nil || size != 1<<30) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%d, %v, want %q", size, err, c.want)
			}
		})
	}
	if _, err := readQcow2(strings.NewReader("QFI")); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("%v", err)
	}
}
