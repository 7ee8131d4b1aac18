package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

// diskName and seedName name what is made for an instance. The id in the name is
// the proof that survives the loss of the definition.
func diskName(name, id string) string { return name + "." + id + ".qcow2" }
func seedName(name, id string) string { return name + "." + id + ".seed.iso" }

func isDiskName(volume, id string) bool { return strings.HasSuffix(volume, "."+id+".qcow2") }
func isSeedName(volume, id string) bool { return strings.HasSuffix(volume, "."+id+".seed.iso") }

// volume is what we want to know of a storage volume.
type volume struct {
	Pool, Name, Path string
	Format           string
	Capacity         uint64
	Bytes            uint64 // its length as a file where libvirt says it
	MTime            string // as libvirt writes it
	Mode             string // permissions, octal
	Backing          string // path of its backing file
}

// readVolume asks for a volume's description.
func readVolume(pool string, vol *libvirt.StorageVol) (volume, error) {
	text, err := vol.GetXMLDesc(0)
	if err != nil {
		return volume{}, err
	}
	var desc libvirtxml.StorageVolume
	if err := desc.Unmarshal(text); err != nil {
		return volume{}, fmt.Errorf("read the description of a volume in pool %q: %w", pool, err)
	}
	v := volume{Pool: pool, Name: desc.Name}
	if desc.Capacity != nil {
		v.Capacity = desc.Capacity.Value
	}
	if desc.Physical != nil {
		v.Bytes = desc.Physical.Value
	}
	if t := desc.Target; t != nil {
		v.Path = t.Path
		if t.Format != nil {
			v.Format = t.Format.Type
		}
		if t.Timestamps != nil {
			v.MTime = t.Timestamps.Mtime
		}
		if t.Permissions != nil {
			v.Mode = t.Permissions.Mode
		}
	}
	if desc.BackingStore != nil {
		v.Backing = desc.BackingStore.Path
	}
	return v, nil
}

// withPool runs f on an active pool.
func withPool(conn *libvirt.Connect, name string, f func(*libvirt.StoragePool) error) error {
	pool, err := conn.LookupStoragePoolByName(name)
	if err != nil {
		return err
	}
	defer free(pool.Free)
	return f(pool)
}

// withVolume runs f on a volume.
func withVolume(conn *libvirt.Connect, pool, name string, f func(*libvirt.StoragePool, *libvirt.StorageVol) error) error {
	return withPool(conn, pool, func(p *libvirt.StoragePool) error {
		vol, err := p.LookupStorageVolByName(name)
		if err != nil {
			return err
		}
		defer free(vol.Free)
		return f(p, vol)
	})
}

// free gives a reference back. It fails only for a reference that is none.
func free(f func() error) { _ = f() }

// findVolume returns a volume's description; NotFound if there is none. The pool
// is read again first if it does not know the volume and refresh is set.
func findVolume(ctx context.Context, s *session, pool, name string, refresh bool) (volume, error) {
	return query(ctx, s, fmt.Sprintf("look up volume %q in pool %q", name, pool),
		func(_ context.Context, conn *libvirt.Connect) (v volume, err error) {
			err = withPool(conn, pool, func(p *libvirt.StoragePool) error {
				vol, err := p.LookupStorageVolByName(name)
				if hasCode(err, libvirt.ERR_NO_STORAGE_VOL) && refresh {
					if err := p.Refresh(0); err != nil {
						return err
					}
					vol, err = p.LookupStorageVolByName(name)
				}
				if err != nil {
					return err
				}
				defer free(vol.Free)
				v, err = readVolume(pool, vol)
				return err
			})
			return v, err
		})
}

// ensureClone makes the linked clone of image, or takes over the one that is
// there. A volume of that name with another backing file is a Conflict.
func ensureClone(ctx context.Context, s *session, want markVolume, image volume, capacity uint64) error {
	desc := libvirtxml.StorageVolume{
		Name:     want.Name,
		Capacity: &libvirtxml.StorageVolumeSize{Value: max(capacity, image.Capacity), Unit: "bytes"},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "qcow2"},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600"},
		},
		BackingStore: &libvirtxml.StorageVolumeBackingStore{
			Path:   image.Path,
			Format: &libvirtxml.StorageVolumeTargetFormat{Type: image.Format},
		},
	}
	if err := ensureVolume(ctx, s, want, desc); err != nil {
		return err
	}
	have, err := findVolume(ctx, s, want.Pool, want.Name, false)
	if err != nil {
		return err
	}
	return checkClone(have, image)
}

// checkClone reports whether a volume is a clone of image.
func checkClone(have, image volume) error {
	if have.Format != "qcow2" || have.Backing != image.Path {
		return scaling.Errorf(scaling.Conflict, "volume %q in pool %q is no clone of %s (format %q, backing file %q): it is not ours, and is left alone",
			have.Name, have.Pool, image.Path, have.Format, have.Backing)
	}
	return nil
}

// ensureVolume makes a volume if there is none of its name. It never writes to
// one that is there.
func ensureVolume(ctx context.Context, s *session, want markVolume, desc libvirtxml.StorageVolume) error {
	text, err := desc.Marshal()
	if err != nil {
		return scaling.Errorf(scaling.Permanent, "describe volume %q: %w", want.Name, err)
	}
	return change(ctx, s, hostCall, fmt.Sprintf("create volume %q in pool %q", want.Name, want.Pool),
		func(ctx context.Context, conn *libvirt.Connect) error {
			return withPool(conn, want.Pool, func(p *libvirt.StoragePool) error {
				if vol, err := p.LookupStorageVolByName(want.Name); err == nil {
					return vol.Free()
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				vol, err := p.StorageVolCreateXML(text, 0)
				if err == nil {
					return vol.Free()
				}
				if hasCode(err, libvirt.ERR_STORAGE_VOL_EXIST) {
					return nil
				}
				// A file that libvirt does not know of yet: what an interrupted
				// libvirtd left, or somebody's. The caller looks at what it is.
				if classOf(err) == scaling.Conflict && p.Refresh(0) == nil {
					if vol, again := p.LookupStorageVolByName(want.Name); again == nil {
						return vol.Free()
					}
				}
				return err
			})
		})
}

// rawVolume describes a volume that holds exactly the bytes written to it.
func rawVolume(name string, size uint64, mode string) libvirtxml.StorageVolume {
	return libvirtxml.StorageVolume{
		Name:     name,
		Capacity: &libvirtxml.StorageVolumeSize{Value: size, Unit: "bytes"},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "raw"},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: mode},
		},
	}
}

// ensureSeed makes the seed's volume and writes its content, also into one that
// an interrupted call left: only volumes that the mark names get here.
func ensureSeed(ctx context.Context, s *session, want markVolume, content []byte) error {
	if err := ensureVolume(ctx, s, want, rawVolume(want.Name, uint64(len(content)), "0600")); err != nil {
		return err
	}
	return upload(ctx, s, want, bytes.NewReader(content), uint64(len(content)))
}

// upload writes size bytes to the beginning of a volume. It stops with ctx
// between two pieces.
func upload(ctx context.Context, s *session, to markVolume, from io.Reader, size uint64) error {
	return change(ctx, s, hostCall, fmt.Sprintf("write volume %q in pool %q", to.Name, to.Pool),
		func(ctx context.Context, conn *libvirt.Connect) error {
			return withVolume(conn, to.Pool, to.Name, func(_ *libvirt.StoragePool, vol *libvirt.StorageVol) error {
				stream, err := conn.NewStream(0)
				if err != nil {
					return err
				}
				defer free(stream.Free)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := vol.Upload(stream, 0, size, 0); err != nil {
					return err
				}
				if err := send(ctx, stream, from); err != nil {
					return errors.Join(err, stream.Abort())
				}
				return stream.Finish()
			})
		})
}

func send(ctx context.Context, stream *libvirt.Stream, from io.Reader) error {
	buffer := make([]byte, 256<<10)
	for {
		n, err := from.Read(buffer)
		for piece := buffer[:n]; len(piece) > 0; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			sent, err := stream.Send(piece)
			if err != nil {
				return err
			}
			piece = piece[sent:]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// download passes a volume's first size bytes (0: all) to w.
func download(ctx context.Context, s *session, from markVolume, size uint64, w io.Writer) error {
	_, err := query(ctx, s, fmt.Sprintf("read volume %q in pool %q", from.Name, from.Pool),
		func(ctx context.Context, conn *libvirt.Connect) (struct{}, error) {
			return struct{}{}, withVolume(conn, from.Pool, from.Name, func(_ *libvirt.StoragePool, vol *libvirt.StorageVol) error {
				stream, err := conn.NewStream(0)
				if err != nil {
					return err
				}
				defer free(stream.Free)
				if err := vol.Download(stream, 0, size, 0); err != nil {
					return err
				}
				buffer := make([]byte, 256<<10)
				for {
					n, err := stream.Recv(buffer)
					if errors.Is(err, io.EOF) {
						return stream.Finish()
					}
					if err == nil && ctx.Err() != nil {
						err = context.Cause(ctx)
					}
					if err == nil {
						_, err = w.Write(buffer[:max(n, 0)])
					}
					if err != nil {
						return errors.Join(err, stream.Abort())
					}
				}
			})
		})
	return err
}

// deleteVolume removes a volume; one that is not there is success.
func deleteVolume(ctx context.Context, s *session, v markVolume) error {
	err := change(ctx, s, hostCall, fmt.Sprintf("delete volume %q in pool %q", v.Name, v.Pool),
		func(ctx context.Context, conn *libvirt.Connect) error {
			return withVolume(conn, v.Pool, v.Name, func(_ *libvirt.StoragePool, vol *libvirt.StorageVol) error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return vol.Delete(libvirt.STORAGE_VOL_DELETE_NORMAL)
			})
		})
	if scaling.IsNotFound(err) {
		return nil
	}
	return err
}

// volumesOf lists the volumes of a pool whose name carries the instance id. A
// pool that does not exist or is not started has none that could be listed,
// which is an error: Delete must not take it for "nothing left".
func volumesOf(ctx context.Context, s *session, pool, id string) ([]volume, error) {
	return query(ctx, s, fmt.Sprintf("list the volumes of pool %q", pool),
		func(_ context.Context, conn *libvirt.Connect) (found []volume, err error) {
			err = withPool(conn, pool, func(p *libvirt.StoragePool) error {
				vols, err := p.ListAllStorageVolumes(0)
				if err != nil {
					return err
				}
				defer func() {
					for i := range vols {
						free(vols[i].Free)
					}
				}()
				for i := range vols {
					name, err := vols[i].GetName()
					if err != nil {
						return err
					}
					if !isDiskName(name, id) && !isSeedName(name, id) {
						continue
					}
					v, err := readVolume(pool, &vols[i])
					if hasCode(err, libvirt.ERR_NO_STORAGE_VOL) {
						continue
					}
					if err != nil {
						return err
					}
					found = append(found, v)
				}
				return nil
			})
			return found, err
		})
}

// volumeAt returns the volume that is the file at path; NotFound if no active
// pool has it.
func volumeAt(ctx context.Context, s *session, path string) (volume, error) {
	return query(ctx, s, "look up the volume of "+path,
		func(_ context.Context, conn *libvirt.Connect) (v volume, err error) {
			vol, err := conn.LookupStorageVolByPath(path)
			if hasCode(err, libvirt.ERR_NO_STORAGE_VOL) {
				// The pool may not have read its folder since the file came.
				pool, lookup := conn.LookupStoragePoolByTargetPath(filepath.Dir(path))
				if lookup != nil {
					return v, err
				}
				defer free(pool.Free)
				if lookup := pool.Refresh(0); lookup != nil {
					return v, err
				}
				vol, err = conn.LookupStorageVolByPath(path)
			}
			if err != nil {
				return v, err
			}
			defer free(vol.Free)
			pool, err := vol.LookupPoolByVolume()
			if err != nil {
				return v, err
			}
			defer free(pool.Free)
			name, err := pool.GetName()
			if err != nil {
				return v, err
			}
			return readVolume(name, vol)
		})
}

// poolFolder returns the folder of a pool of files; clones need one.
func poolFolder(ctx context.Context, s *session, name string) (string, error) {
	folder, err := query(ctx, s, fmt.Sprintf("read pool %q", name), func(_ context.Context, conn *libvirt.Connect) (folder string, err error) {
		err = withPool(conn, name, func(pool *libvirt.StoragePool) error {
			text, err := pool.GetXMLDesc(0)
			if err != nil {
				return err
			}
			var desc libvirtxml.StoragePool
			if err := desc.Unmarshal(text); err != nil {
				return fmt.Errorf("read the description: %w", err)
			}
			switch desc.Type {
			case "dir", "fs", "netfs":
			default:
				return scaling.Errorf(scaling.Permanent, "pool %q is of type %q: linked clones need a pool of files (dir, fs or netfs)", name, desc.Type)
			}
			if desc.Target != nil {
				folder = desc.Target.Path
			}
			return nil
		})
		return folder, err
	})
	if err == nil && !strings.HasPrefix(folder, "/") {
		err = scaling.Errorf(scaling.Permanent, "pool %q has no folder", name)
	}
	return folder, err
}
