package daemon

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/dm/provider"
)

// defaultLinkDir holds the links to the devices of exposed snapshots: SET/VOLUME. It lies on devtmpfs. The daemon makes
// and removes them, with udev or without; udev leaves alone what it has not made.
const defaultLinkDir = "/dev/fermata"

// linkName is the name of a snapshot's link: its origin's mount point, escaped as systemd-escape(1) --path does, or, of a
// volume without one, @ and the origin's name escaped alike (@ is in no escaped path). A throw-away copy's ends in @copy.
func linkName(s provider.Snapshot) string {
	name := "@" + escape(s.Origin)
	if s.MountPoint != "" {
		name = escape(s.MountPoint)
	}
	const longest = 200 // a file name has 255 bytes
	if len(name) > longest {
		h := fnv.New64a()
		h.Write([]byte(name))
		name = fmt.Sprintf("%s@%016x", name[:longest], h.Sum64())
	}
	if s.Scratch {
		name += "@copy"
	}
	return name
}

// escape makes one path component of a path, as systemd.unit(5), STRING ESCAPING FOR INCLUSION IN UNIT NAMES.
func escape(path string) string {
	path = strings.Trim(path, "/")
	if path == "" {
		return "-"
	}
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == ':', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

func (d *Daemon) linkPath(s provider.Snapshot) string {
	return filepath.Join(d.o.LinkDir, s.Set.ID, linkName(s))
}

// expose makes a snapshot's device readable, under its own name and by a link; hide undoes it.
func (d *Daemon) expose(ctx context.Context, p provider.Provider, s provider.Snapshot) (device string, err error) {
	if device, err = p.Expose(ctx, s); err != nil {
		return "", err
	}
	if err := d.link(s, device); err != nil {
		undo, cancel := d.within(ctx, d.undoLimit)
		defer cancel()
		return "", errors.Join(err, p.Hide(undo, []provider.Snapshot{s}))
	}
	return device, nil
}

func (d *Daemon) hide(ctx context.Context, p provider.Provider, snaps []provider.Snapshot) error {
	var errs []error
	for _, s := range snaps {
		errs = append(errs, d.unlink(s))
	}
	return errors.Join(append(errs, p.Hide(ctx, snaps))...)
}

// link points a snapshot's link to its device, wherever it pointed before.
func (d *Daemon) link(s provider.Snapshot, device string) (err error) {
	path := d.linkPath(s)
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		fresh := path + ".new"
		_ = os.Remove(fresh) // of a daemon that died here
		if err = os.Symlink(device, fresh); err == nil {
			err = os.Rename(fresh, path)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make the link of %s: %w", s.Name, err)
	}
	return nil
}

// unlink removes a snapshot's link, and the directory of a set that has none left.
func (d *Daemon) unlink(s provider.Snapshot) error {
	path := d.linkPath(s)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the link of %s: %w", s.Name, err)
	}
	removeEmpty(filepath.Dir(path), filepath.Dir(d.o.LinkDir))
	return nil
}
