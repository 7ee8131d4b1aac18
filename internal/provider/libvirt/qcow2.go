package libvirt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// qcow2Header is the part of a qcow2 file's header that decides whether the file
// may become an image. Numbers are big-endian.
type qcow2Header struct {
	Magic             uint32
	Version           uint32
	BackingOffset     uint64
	BackingSize       uint32
	ClusterBits       uint32
	VirtualSize       uint64
	CryptMethod       uint32
	L1Size            uint32
	L1Offset          uint64
	RefcountOffset    uint64
	RefcountClusters  uint32
	Snapshots         uint32
	SnapshotsOffset   uint64
	IncompatibleFlags uint64 // version 3 and later
}

const (
	qcow2Magic        = 0x514649fb // "QFI\xfb"
	qcow2Dirty        = 1 << 0
	qcow2Corrupt      = 1 << 1
	qcow2ExternalData = 1 << 2
)

// readQcow2 reads the header at the beginning of r and returns the disk's virtual
// size. It refuses whatever could not stand alone, read-only, below clones.
func readQcow2(r io.Reader) (virtualSize uint64, err error) {
	var h qcow2Header
	if err := binary.Read(r, binary.BigEndian, &h); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, errors.New("no qcow2 image: it is too short")
		}
		return 0, err
	}
	switch {
	case h.Magic != qcow2Magic:
		return 0, errors.New("no qcow2 image; convert it with: qemu-img convert -O qcow2 FILE NEW")
	case h.Version != 2 && h.Version != 3:
		return 0, fmt.Errorf("qcow2 version %d: only 2 and 3 are known", h.Version)
	case h.BackingOffset != 0:
		return 0, errors.New("it has a backing file, without which it is incomplete; flatten it with: qemu-img convert -O qcow2 FILE NEW")
	case h.CryptMethod != 0:
		return 0, errors.New("it is encrypted, and clones would have no key")
	case h.VirtualSize == 0:
		return 0, errors.New("its disk is empty")
	}
	if h.Version >= 3 {
		switch flags := h.IncompatibleFlags; {
		case flags&qcow2Dirty != 0:
			return 0, errors.New("it was not closed cleanly; repair it with: qemu-img check -r all FILE")
		case flags&qcow2Corrupt != 0:
			return 0, errors.New("it is marked as corrupt; look at it with: qemu-img check FILE")
		case flags&qcow2ExternalData != 0:
			return 0, errors.New("it keeps its data in another file; flatten it with: qemu-img convert -O qcow2 FILE NEW")
		}
	}
	return h.VirtualSize, nil
}
