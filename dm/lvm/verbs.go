package lvm

import (
	"context"
	"errors"
	"fmt"
)

// CreateThinSnapshot records a snapshot of a thin LV, sealed if it is to be read-only, and leaves it inactive, with
// activation skip set. LVM suspends the origin for a moment and freezes the filesystem on it: neither may be held by us.
func (l *LVM) CreateThinSnapshot(ctx context.Context, vg, origin, name string, readOnly bool, tags ...string) error {
	args := []string{"--yes", "--snapshot", "--activate", "n", "--setactivationskip", "y", "--name", name}
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
