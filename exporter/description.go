package exporter

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// parseDescription reads the <os><type> element of a domain's definition and
// stops there: it stands near the top of a document that can be long.
func parseDescription(text string) (description, error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	depth, inOS := 0, false
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return description{}, errors.New("no <os><type> element")
		}
		if err != nil {
			return description{}, fmt.Errorf("read domain XML: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			if depth == 2 {
				inOS = t.Name.Local == "os"
			}
			if depth == 3 && inOS && t.Name.Local == "type" {
				return osType(dec, t)
			}
		case xml.EndElement:
			depth--
		}
	}
}

func osType(dec *xml.Decoder, start xml.StartElement) (description, error) {
	var d description
	for _, a := range start.Attr {
		switch a.Name.Local {
		case "arch":
			d.Arch = a.Value
		case "machine":
			d.Machine = a.Value
		}
	}
	if err := dec.DecodeElement(&d.OSType, &start); err != nil {
		return description{}, fmt.Errorf("read <os><type>: %w", err)
	}
	d.OSType = strings.TrimSpace(d.OSType)
	return d, nil
}
