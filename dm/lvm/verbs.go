package lvm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
)

// CreateThinSnapshot records a snapshot of a thin LV, sealed if it is to be read-only, and leaves it inactive, with
// activation skip set. LVM suspends the origin for a moment and freezes the filesystem on it: neither may be held by us.
// dmeventd is left alone: it watches the pool, which goes on; telling it to stop and to begin again takes LVM longer than all
// the rest.
func (l *LVM) CreateThinSnapshot(ctx context.Context, vg, origin, name string, readOnly bool, tags ...string) error {
	args := []string{"--yes", "--snapshot", "--activate", "n", "--setactivationskip", "y", "--ignoremonitoring", "--name", name}
	if readOnly {
		args = append(args, "--permission", "r")
	} else {
		args = append(args, "--permission", "rw")
	}
	err := errors.Join(CheckName(vg), CheckName(origin), CheckName(name))
	for _, tag := range tags {
		err = errors.Join(err, CheckTag(tag))
		args = append(args, "--addtag", tag)
	}
	if err != nil {
		return fmt.Errorf("cannot create snapshot of %s/%s: %w", vg, origin, err)
	}
	_, err = l.run(ctx, "lvcreate", append(args, vg+"/"+origin)...)
	return err
}

// CreateThickSnapshot makes a read-only snapshot of a thick LV, with a copy-on-write area of size bytes, which LVM rounds
// up to extents and caps at what it can use, in chunks of chunk bytes. It is active like its origin. LVM suspends the
// origin for a moment and freezes the filesystem on it: neither may be held by us. dmeventd does not watch it before the
// next activation.
func (l *LVM) CreateThickSnapshot(ctx context.Context, vg, origin, name string, size, chunk uint64, tags ...string) error {
	args := []string{"--yes", "--snapshot", "--permission", "r", "--ignoremonitoring", "--name", name,
		"--size", inBytes(size), "--chunksize", inBytes(chunk)}
	err := errors.Join(CheckName(vg), CheckName(origin), CheckName(name))
	for _, tag := range tags {
		err = errors.Join(err, CheckTag(tag))
		args = append(args, "--addtag", tag)
	}
	if err != nil {
		return fmt.Errorf("cannot create snapshot of %s/%s: %w", vg, origin, err)
	}
	_, err = l.run(ctx, "lvcreate", append(args, vg+"/"+origin)...)
	return err
}

// Extend makes an LV ("vg/lv") size bytes large, rounded up to extents: of a thick snapshot its copy-on-write area, which
// LVM caps at what it can use. One that is as large already makes it fail.
func (l *LVM) Extend(ctx context.Context, lv string, size uint64) error {
	return l.onLVs(ctx, []string{lv}, "lvextend", "--size", inBytes(size))
}

// ExtendMetadata makes the metadata of a thin pool ("vg/pool") size bytes large, rounded up to extents.
func (l *LVM) ExtendMetadata(ctx context.Context, pool string, size uint64) error {
	return l.onLVs(ctx, []string{pool}, "lvextend", "--poolmetadatasize", inBytes(size))
}

// ExtendGroup makes a device a physical volume of a group. One that carries a signature makes it fail: nobody is there to be asked
// whether it may be wiped.
func (l *LVM) ExtendGroup(ctx context.Context, vg, device string) error {
	if err := CheckName(vg); err != nil {
		return fmt.Errorf("cannot extend volume group: %w", err)
	}
	if !filepath.IsAbs(device) {
		return fmt.Errorf("cannot extend volume group %s: %q is no path of a device", vg, device)
	}
	_, err := l.run(ctx, "vgextend", vg, device)
	return err
}

func inBytes(n uint64) string { return strconv.FormatUint(n, 10) + "b" }

// ChangeTags adds and deletes tags of LVs ("vg/lv") in one process. Adding a tag that is there, or deleting one that is
// not, is no error.
func (l *LVM) ChangeTags(ctx context.Context, lvs, add, del []string) error {
	var args []string
	for _, tag := range add {
		if err := CheckTag(tag); err != nil {
			return fmt.Errorf("cannot change tags: %w", err)
		}
		args = append(args, "--addtag", tag)
	}
	for _, tag := range del {
		if err := CheckTag(tag); err != nil {
			return fmt.Errorf("cannot change tags: %w", err)
		}
		args = append(args, "--deltag", tag)
	}
	if len(args) == 0 {
		return nil
	}
	return l.onLVs(ctx, lvs, "lvchange", args...)
}

// SetReadOnly seals LVs ("vg/lv"): they cannot be written to until lvchange says so again.
func (l *LVM) SetReadOnly(ctx context.Context, lvs ...string) error {
	return l.onLVs(ctx, lvs, "lvchange", "--permission", "r")
}

// SetWritable undoes SetReadOnly.
func (l *LVM) SetWritable(ctx context.Context, lvs ...string) error {
	return l.onLVs(ctx, lvs, "lvchange", "--permission", "rw")
}

// Activate makes the device of an LV ("vg/lv"); ignoreSkip does so for one whose activation skip is set. That it is
// active already is no error.
func (l *LVM) Activate(ctx context.Context, lv string, ignoreSkip bool) error {
	args := []string{"--activate", "y"}
	if ignoreSkip {
		args = append(args, "--ignoreactivationskip")
	}
	return l.onLVs(ctx, []string{lv}, "lvchange", args...)
}

// Deactivate removes the devices of LVs ("vg/lv"). One that is open makes it fail; one that is inactive does not.
func (l *LVM) Deactivate(ctx context.Context, lvs ...string) error {
	return l.onLVs(ctx, lvs, "lvchange", "--activate", "n")
}

// Remove deletes LVs ("vg/lv") with their contents, in one process. If one cannot be removed the others may be.
func (l *LVM) Remove(ctx context.Context, lvs ...string) error {
	return l.onLVs(ctx, lvs, "lvremove", "--yes", "--force")
}

// onLVs runs a command on LVs. On none it does nothing: lvm would take that for a mistake, or for all.
func (l *LVM) onLVs(ctx context.Context, lvs []string, command string, args ...string) error {
	if len(lvs) == 0 {
		return nil
	}
	for _, lv := range lvs {
		if err := checkLV(lv); err != nil {
			return fmt.Errorf("cannot %s: %w", command, err)
		}
	}
	_, err := l.run(ctx, command, append(args, lvs...)...)
	return err
}
