package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// markURI is the XML namespace of the mark. It names the format: changing
	// it orphans every VM that exists.
	markURI    = "https://github.com/scalehook/scalehook/xmlns/instance/1"
	markPrefix = "scalehook"

	// usesURI is the namespace of what is left on a VM that was let go: the address of
	// a range that it uses. It says nothing of who owns the VM.
	usesURI    = "https://github.com/scalehook/scalehook/xmlns/uses/1"
	usesPrefix = "scalehook-uses"
)

// mark is what we write into a domain's metadata: whose it is, and what was made
// for it. It proves ownership only as long as UUID is the domain's own, since a
// cloned definition carries a copied mark.
type mark struct {
	XMLName xml.Name     `xml:"instance"`
	Owner   string       `xml:"owner,attr"`
	Group   string       `xml:"group,attr"`
	ID      string       `xml:"id,attr"`
	UUID    string       `xml:"uuid,attr"`
	Created string       `xml:"created,attr"`
	Adopted bool         `xml:"adopted,attr,omitempty"`
	Image   *markImage   `xml:"image"`
	Volumes []markVolume `xml:"volume"`
	NICs    []markNIC    `xml:"interface"`
	Address *markAddress `xml:"address"`
}

// markImage is the image as it was when the clone was made.
type markImage struct {
	Pool  string `xml:"pool,attr"`
	Name  string `xml:"name,attr"`
	Path  string `xml:"path,attr"`
	Bytes uint64 `xml:"bytes,attr"`
	MTime string `xml:"mtime,attr,omitempty"`
}

// markVolume is a volume made for the instance, or about to be.
type markVolume struct {
	Pool string `xml:"pool,attr"`
	Name string `xml:"name,attr"`
}

// markNIC is how the VM's address is found without asking for its definition.
type markNIC struct {
	MAC     string `xml:"mac,attr"`
	Network string `xml:"network,attr,omitempty"`
}

// markAddress is where the address comes from and, for a range, which it is.
type markAddress struct {
	Source AddressSource `xml:"source,attr"`
	IP     string        `xml:"ip,attr,omitempty"`
}

// uses is the element below usesURI.
type uses struct {
	XMLName xml.Name `xml:"address"`
	IP      string   `xml:"ip,attr"`
}

func usesElement(ip string) string { return fmt.Sprintf("<address ip=%q/>", ip) }

// valid reports whether the mark, found in the domain with that uuid, is its own.
func (m *mark) valid(uuid string) bool {
	return m != nil && m.ID != "" && m.Owner != "" && strings.EqualFold(m.UUID, uuid)
}

// created returns when the VM was made or adopted; zero if the mark does not say.
func (m *mark) created() time.Time {
	at, err := time.Parse(time.RFC3339, m.Created)
	if err != nil {
		return time.Time{}
	}
	return at
}

// element returns the mark as setting metadata wants it: without a namespace,
// which libvirt adds.
func (m *mark) element() (string, error) {
	bare := *m
	bare.XMLName = xml.Name{Local: "instance"}
	text, err := xml.Marshal(bare)
	if err != nil {
		return "", fmt.Errorf("write the mark of %s: %w", m.ID, err)
	}
	return string(text), nil
}

// namespaced returns the mark as a definition's metadata wants it.
func (m *mark) namespaced() (string, error) {
	text, err := m.element()
	if err != nil {
		return "", err
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "<instance"), "</instance>")
	return "<" + markPrefix + ":instance xmlns:" + markPrefix + `="` + markURI + `"` + text + "</" + markPrefix + ":instance>", nil
}

// parseMark reads what libvirt returns for our element, with or without its
// namespace.
func parseMark(text string) (*mark, error) {
	var m mark
	if err := xml.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("read a mark: %w", err)
	}
	return &m, nil
}

// findMark looks for the mark in the inside of a definition's metadata element;
// nil if there is none or it cannot be read.
func findMark(metadata string) *mark {
	decoder := xml.NewDecoder(strings.NewReader(metadata))
	for {
		token, err := decoder.Token()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return nil
			}
			return nil
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if start.Name.Space == markURI && start.Name.Local == "instance" {
			var m mark
			if decoder.DecodeElement(&m, &start) != nil {
				return nil
			}
			return &m
		}
		if decoder.Skip() != nil {
			return nil
		}
	}
}
