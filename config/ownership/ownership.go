// Package ownership tells what only root can change. The daemon is root: it runs no program, believes no file and writes
// into no folder that somebody else can put another in the place of.
package ownership

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrUntrusted says that somebody other than root could change something.
var ErrUntrusted = errors.New("not to be trusted")

// untrusted is an ErrUntrusted that says why.
type untrusted string

func (u untrusted) Error() string        { return string(u) }
func (u untrusted) Is(target error) bool { return target == ErrUntrusted }

// maxLinks is how many symbolic links are followed in one path, as in the kernel (path_resolution(7)).
const maxLinks = 40

// File is nil if only root can change which file the absolute path means, and what is in it: the file, every folder on the
// way, and whatever symbolic links lead to it belong to root, and neither the group (unless it is root's) nor others may
// write them. A folder with the sticky bit, as /tmp, will do above the file's own folder, for others cannot rename root's
// entries there. The error wraps ErrUntrusted and names the culprit.
func File(path string) error {
	at, err := walk(path, true)
	if err != nil {
		return err
	}
	return check(filepath.Dir(at), true)
}

// Directory is nil if path is a folder in which only root can make, rename or remove anything, and only root can put
// another in its place. A folder with the sticky bit will do above it.
func Directory(path string) error {
	at, err := walk(path, false)
	if err != nil {
		return err
	}
	info, err := os.Lstat(at)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return fmt.Errorf("cannot check %s: %w", path, bare(err))
	}
	return check(at, true)
}

// walk follows a path to its end and checks everything on the way. strict refuses the sticky bit's excuse for the folder that
// holds the last component.
func walk(path string, strict bool) (at string, err error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("cannot check %q: the path is not absolute", path)
	}
	left := strings.Split(strings.Trim(path, "/"), "/")
	at = "/"
	if err := check(at, strict && len(left) == 1); err != nil {
		return "", err
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
			return "", fmt.Errorf("cannot check %s: %w", path, bare(err))
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := check(next, strict && len(left) == 1); err != nil {
				return "", err
			}
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("cannot check %s: %w", path, syscall.ELOOP)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", fmt.Errorf("cannot check %s: %w", path, bare(err))
		}
		if err := owner(info); err != nil {
			return "", fmt.Errorf("link %s: %w", next, err)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		left = append(strings.Split(strings.Trim(target, "/"), "/"), left...)
	}
	return at, nil
}

// check looks at one file or folder; strict refuses the sticky bit's excuse.
func check(path string, strict bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("cannot check %s: %w", path, bare(err))
	}
	if !strict && info.IsDir() && info.Mode()&fs.ModeSticky != 0 {
		err = owner(info)
	} else {
		err = entry(info, func(b []byte) (int, error) { return unix.Lgetxattr(path, acl, b) })
	}
	what := "file"
	if info.IsDir() {
		what = "folder"
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, path, err)
	}
	return nil
}

// Opened is nil if root owns an open file, and neither a group other than root's nor others may write it. It says nothing of
// the folders above.
func Opened(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot check the file: %w", bare(err))
	}
	return entry(info, func(b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), acl, b) })
}

// acl is the attribute that has a file's access control list. Where there is one, the mode shows as the group's rights what
// anybody may have who is named in it (acl(5)).
const acl = "system.posix_acl_access"

func entry(info fs.FileInfo, readACL func([]byte) (int, error)) error {
	if err := owner(info); err != nil {
		return err
	}
	mode := info.Mode().Perm()
	if mode&0o002 != 0 || mode&0o020 != 0 && info.Sys().(*syscall.Stat_t).Gid != 0 {
		return untrusted(fmt.Sprintf("mode %04o lets others than root write: run chmod go-w on it", mode))
	}
	if mode&0o020 == 0 {
		return nil
	}
	switch n, err := readACL(nil); {
	case errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0:
		return nil
	case err != nil:
		return fmt.Errorf("cannot read its access control list: %w", err)
	}
	return untrusted("its access control list may let others than root write: run setfacl -b, or chmod go-w, on it")
}

func owner(info fs.FileInfo) error {
	switch st, ok := info.Sys().(*syscall.Stat_t); {
	case !ok:
		return untrusted("its owner is not known")
	case st.Uid != 0:
		return untrusted(fmt.Sprintf("owned by user %d, not by root: run chown root on it", st.Uid))
	}
	return nil
}

// bare is an error without the path that is named anyway.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
