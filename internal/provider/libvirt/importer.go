package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// ImportOptions say which file becomes which image.
type ImportOptions struct {
	File, Pool, Name string
}

// Image is an image as imported.
type Image struct {
	Pool, Name, Path string
	SHA256           string
	Bytes            uint64 // of the file
	VirtualSize      uint64
	// Existed says that it had been imported already, and nothing was done.
	Existed bool
}

func (o ImportOptions) validate() error {
	var errs []error
	if !volumeNameRE.MatchString(o.Name) {
		errs = append(errs, fmt.Errorf("name %q: use letters, digits, '_', '.', '+' and '-'", o.Name))
	}
	if !deviceNameRE.MatchString(o.Pool) {
		errs = append(errs, fmt.Errorf("pool %q: use letters, digits, '_', '.', '+' and '-'", o.Pool))
	}
	return errors.Join(errs...)
}

// Import copies a qcow2 file into a pool as a read-only image and records its
// hash. Run again after an interruption it goes on; a finished import of the
// same file changes nothing, and of another file is a Conflict.
func Import(ctx context.Context, cfg Config, opts ImportOptions, log *slog.Logger) (image Image, err error) {
	if err := errors.Join(cfg.Validate(), opts.validate()); err != nil {
		return image, err
	}
	file, err := os.Open(opts.File)
	if err != nil {
		return image, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	image = Image{Pool: opts.Pool, Name: opts.Name}
	if image.VirtualSize, err = readQcow2(file); err != nil {
		return image, fmt.Errorf("import %s: %w", opts.File, err)
	}
	if image.SHA256, image.Bytes, err = hashFile(file); err != nil {
		return image, fmt.Errorf("read %s: %w", opts.File, err)
	}
	m := newManager(cfg, log)
	defer func() { err = errors.Join(err, m.close()) }()
	s, err := m.session(ctx, "import", false)
	if err != nil {
		return image, err
	}
	defer s.release()
	if err := importInto(ctx, s, cfg, file, &image); err != nil {
		return image, fmt.Errorf("import %s as %q into pool %q: %w", opts.File, opts.Name, opts.Pool, err)
	}
	return image, nil
}

func hashFile(file *os.File) (sum string, size uint64, err error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, file)
	return hex.EncodeToString(hash.Sum(nil)), uint64(max(n, 0)), err
}

// importInto uploads the file. The record comes first and says "importing", so
// that a half-written image is known as one.
func importInto(ctx context.Context, s *session, cfg Config, file *os.File, image *Image) error {
	record, err := readRecord(ctx, s, image.Pool, image.Name)
	if err != nil {
		return err
	}
	have, err := findVolume(ctx, s, image.Pool, image.Name, true)
	exists := err == nil
	if err != nil && !scaling.IsNotFound(err) {
		return err
	}
	if exists {
		switch {
		case record == nil:
			return scaling.Errorf(scaling.Conflict, "a volume of that name exists and was not imported; choose another name")
		case record.Building:
			return record.check(have)
		case record.SHA256 != image.SHA256:
			return scaling.Errorf(scaling.Conflict, "an image of that name exists (sha256 %s); give the new one a new name, since clones stand on the old", record.SHA256)
		case !record.Importing:
			image.Path, image.Existed = have.Path, true
			return record.check(have)
		}
	}
	now := imageRecord{
		Importing: true, SHA256: image.SHA256, Bytes: image.Bytes,
		Imported: time.Now().UTC().Truncate(time.Second), Source: filepath.Base(file.Name()),
	}
	if err := writeRecord(ctx, s, image.Pool, image.Name, now); err != nil {
		return err
	}
	to := markVolume{image.Pool, image.Name}
	// Raw, so that exactly the file's bytes are stored; libvirt reads the format.
	if err := ensureVolume(ctx, s, to, rawVolume(to.Name, image.Bytes, imageMode(cfg.URI))); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := upload(ctx, s, to, file, image.Bytes); err != nil {
		return err
	}
	if have, err = refreshedVolume(ctx, s, to); err != nil {
		return err
	}
	if have.Format != "qcow2" || have.Bytes != image.Bytes || have.Backing != "" {
		return scaling.Errorf(scaling.Conflict, "after the upload libvirt sees format %q, %d bytes and backing file %q instead of qcow2, %d bytes and none",
			have.Format, have.Bytes, have.Backing, image.Bytes)
	}
	image.Path = have.Path
	now.Importing, now.MTime = false, have.MTime
	return writeRecord(ctx, s, image.Pool, image.Name, now)
}

// imageMode is read-only for everybody. A libvirtd of an ordinary user could then
// not write the image itself, so there it stays writable by that user.
func imageMode(uri string) string {
	if u, err := url.Parse(uri); err == nil && u.Path == "/session" {
		return "0600"
	}
	return "0444"
}

// refreshedVolume reads the pool and returns the volume as it is now.
func refreshedVolume(ctx context.Context, s *session, v markVolume) (volume, error) {
	err := change(ctx, s, hostCall, fmt.Sprintf("refresh pool %q", v.Pool), func(_ context.Context, conn *libvirt.Connect) error {
		return withPool(conn, v.Pool, func(pool *libvirt.StoragePool) error { return pool.Refresh(0) })
	})
	if err != nil {
		return volume{}, err
	}
	return findVolume(ctx, s, v.Pool, v.Name, false)
}
