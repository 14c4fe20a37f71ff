package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrUntrusted says that somebody other than root could change a program.
var ErrUntrusted = errors.New("not to be trusted")

// maxLinks is how many symbolic links are followed in one path, as in the kernel
// (path_resolution(7)).
const maxLinks = 40

// CheckOwnership is nil if only root can change which program the absolute path
// means: the file, every folder on the way, and whatever symbolic links lead to
// it belong to root, and neither the group (unless it is root's) nor others may
// write them. A folder with the sticky bit, as /tmp, will do above the file's
// own folder, for others cannot rename root's entries there. The error wraps
// ErrUntrusted and names the culprit.
func CheckOwnership(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("cannot check program %q: the path is not absolute", path)
	}
	left := strings.Split(strings.Trim(path, "/"), "/")
	at := "/"
	if err := checkEntry(at, len(left) == 1); err != nil {
		return err
	}
	for links := 0; len(left) > 0; {
		name := left[0]
		left = left[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return fmt.Errorf("cannot check program %s: %w", path, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := checkEntry(next, len(left) == 1); err != nil {
				return err
			}
			at = next
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("cannot check program %s: %w", path, syscall.ELOOP)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return fmt.Errorf("cannot check program %s: %w", path, err)
		}
		if err := checkOwner(next, info); err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		left = append(strings.Split(strings.Trim(target, "/"), "/"), left...)
	}
	return checkEntry(filepath.Dir(at), true)
}

// checkEntry looks at one file or folder; strict refuses the sticky bit's excuse.
func checkEntry(path string, strict bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("cannot check %s: %w", path, err)
	}
	if err := checkOwner(path, info); err != nil {
		return err
	}
	mode := info.Mode()
	if mode&fs.ModeSticky != 0 && mode.IsDir() && !strict {
		return nil
	}
	if mode.Perm()&0o002 != 0 || mode.Perm()&0o020 != 0 && statOf(info).Gid != 0 {
		return fmt.Errorf("%s is writable by others than root (mode %04o): %w; chmod go-w %s",
			path, mode.Perm(), ErrUntrusted, path)
	}
	return nil
}

func checkOwner(path string, info fs.FileInfo) error {
	if uid := statOf(info).Uid; uid != 0 {
		return fmt.Errorf("%s belongs to uid %d, not to root: %w; chown root %s", path, uid, ErrUntrusted, path)
	}
	return nil
}

// statOf is what lstat(2) said: on Linux there is always a Stat_t.
func statOf(info fs.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }
