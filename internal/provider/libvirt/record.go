package libvirt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// recordSize is the fixed length of a record, so that writing it again leaves
// nothing of the old one; it is padded with spaces.
const recordSize = 4096

// recordName is the volume beside an image that holds its record. A volume, and
// no file of ours, so that it is found from wherever libvirt is.
func recordName(image string) string { return image + ".scalehook.json" }

// imageRecord is what an import notes down of an image.
type imageRecord struct {
	// Importing is set until the image is complete.
	Importing bool `json:"importing,omitempty"`
	// Building is set while a build makes the image: it is the proof that the
	// volumes of a build's names are a build's.
	Building bool      `json:"building,omitempty"`
	SHA256   string    `json:"sha256"`
	Bytes    uint64    `json:"bytes"`
	MTime    string    `json:"mtime,omitempty"`
	Imported time.Time `json:"imported"`
	Source   string    `json:"source,omitempty"`
}

// readRecord returns an image's record; nil if it has none.
func readRecord(ctx context.Context, s *session, pool, image string) (*imageRecord, error) {
	if _, err := findVolume(ctx, s, pool, recordName(image), false); scaling.IsNotFound(err) {
		return nil, nil //nolint:nilnil // no record is an answer, and no error
	} else if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	if err := download(ctx, s, markVolume{pool, recordName(image)}, recordSize, &content); err != nil {
		return nil, err
	}
	var record imageRecord
	if err := json.Unmarshal(bytes.TrimRight(content.Bytes(), " \x00"), &record); err != nil {
		return nil, scaling.Errorf(scaling.Permanent, "read the record of image %q in volume %q: %w", image, recordName(image), err)
	}
	return &record, nil
}

// writeRecord writes an image's record, making its volume if need be.
func writeRecord(ctx context.Context, s *session, pool, image string, record imageRecord) error {
	text, err := json.MarshalIndent(record, "", "  ")
	if err != nil || len(text) >= recordSize {
		return scaling.Errorf(scaling.Permanent, "write the record of image %q (%d bytes): %w", image, len(text), err)
	}
	padded := slices.Concat(text, bytes.Repeat([]byte{' '}, recordSize-len(text)))
	to := markVolume{pool, recordName(image)}
	if err := ensureVolume(ctx, s, to, rawVolume(to.Name, recordSize, "0600")); err != nil {
		return err
	}
	return upload(ctx, s, to, bytes.NewReader(padded), recordSize)
}

// check compares an image with its record.
func (r imageRecord) check(image volume) error {
	if r.Building {
		return scaling.Errorf(scaling.Temporary, "image %s: its build has not ended; if it was interrupted, delete the volume and build it again", image.Path)
	}
	if r.Importing {
		return scaling.Errorf(scaling.Temporary, "image %s: its import has not ended; if it was interrupted, run it again", image.Path)
	}
	if r.Bytes != image.Bytes || r.MTime != image.MTime {
		return scaling.Errorf(scaling.Permanent, "image %s was changed since its import of %s (%d bytes, mtime %s; now %d bytes, mtime %s): clones of it may be broken; import it under a new name",
			image.Path, r.Imported.Format(time.RFC3339), r.Bytes, r.MTime, image.Bytes, image.MTime)
	}
	return nil
}

// checkRecord compares an image with what was recorded at its import, if it was
// imported.
func checkRecord(ctx context.Context, s *session, image volume) (*imageRecord, error) {
	record, err := readRecord(ctx, s, image.Pool, image.Name)
	if err != nil || record == nil {
		return nil, err
	}
	if err := record.check(image); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return record, nil
}

// checkContent reads a whole image and compares it with its record, which finds
// what changed neither its length nor its time.
func (r imageRecord) checkContent(ctx context.Context, s *session, image volume) error {
	hash := sha256.New()
	if err := download(ctx, s, markVolume{image.Pool, image.Name}, 0, hash); err != nil {
		return err
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != r.SHA256 {
		return scaling.Errorf(scaling.Permanent, "the content of image %s was changed since its import of %s (sha256 %s; now %s): clones of it may be broken; import it under a new name",
			image.Path, r.Imported.Format(time.RFC3339), r.SHA256, sum)
	}
	return nil
}
