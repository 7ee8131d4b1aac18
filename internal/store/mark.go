package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
)

// A mark says how far a store had got. It is kept in a small file beside the
// database, path.mark, and written after every commit without a flush: what it
// says was durable before, so it is never ahead of a database that lost nothing,
// and behind it only after a power cut. A database that is behind its mark is an
// older copy that was put in its place, or has lost its write-ahead log.
type mark struct {
	store   string // the identity of the database
	epoch   int64
	commits int64
}

// markFile keeps a mark. It is a file of fixed length, so that a full disk does
// not keep the mark from being written.
type markFile struct {
	file  *os.File
	found mark // as it was when it was opened; zero if there was none to be read
}

const (
	markSuffix = ".mark"
	markFormat = "scalehook-store-mark 1 %s %d %d"
	markSize   = 128
)

func openMark(database string) (*markFile, error) {
	path := database + markSuffix
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, readOnly(err)
	}
	if err := ownAs(path, database); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	m := &markFile{file: file}
	text := make([]byte, markSize)
	n, _ := file.ReadAt(text, 0) // what cannot be read proves nothing
	m.found = parseMark(text[:n])
	return m, nil
}

// text is the mark with a checksum: a mark that was half written says nothing.
func (m mark) text() []byte {
	line := fmt.Sprintf(markFormat, m.store, m.epoch, m.commits)
	line = fmt.Sprintf("%s %08x", line, crc32.ChecksumIEEE([]byte(line)))
	return fmt.Appendf(nil, "%-*s\n", markSize-1, line)
}

func parseMark(text []byte) mark {
	var m mark
	var sum uint32
	if _, err := fmt.Sscanf(string(text), markFormat+" %x", &m.store, &m.epoch, &m.commits, &sum); err != nil {
		return mark{}
	}
	if string(m.text()) != string(text) {
		return mark{}
	}
	return m
}

func (m *markFile) write(now mark) error {
	_, err := m.file.WriteAt(now.text(), 0)
	return err
}

// begin writes the mark of a new owner so that it lasts.
func (m *markFile) begin(now mark) error {
	return errors.Join(m.write(now), m.file.Sync())
}

func (m *markFile) close() error { return m.file.Close() }
