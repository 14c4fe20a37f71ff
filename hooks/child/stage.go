package child

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Stage is a view of the host that a program has for itself, and that ends with it: filesystems are mounted over those that
// are live at the same paths, all else is read-only, and nothing leads back to what runs on the host: no network, no socket,
// no shared memory and no temporary file of it is there (namespaces(7): mount, network, IPC).
type Stage struct {
	Mounts []Mount
	// Root is an empty directory, needed if one of Mounts is an image of the root filesystem: this is mounted there, and what
	// it has at its top over the same directory of the host.
	Root string
}

// Mount is a filesystem to be mounted on a stage.
type Mount struct {
	Device, FSType, Options string
	Path                    string // where the live filesystem is
	ReadOnly                bool
}

// hidden directories are empty on a stage: what they have leads to the processes of the host.
var hidden = []string{"/run", "/tmp", "/dev/shm"}

// enter puts the calling thread on the stage. It returns what was mounted, in that order, also with an error.
func (s *Stage) enter() (mounted []string, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("cannot leave the host's namespaces: %w", err)
	}
	// What the host unmounts is unmounted here, too; what is mounted here stays here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, fmt.Errorf("cannot make a mount table of its own: %w", err)
	}
	if err := readOnly(); err != nil {
		return nil, fmt.Errorf("cannot make the host's filesystems read-only: %w", err)
	}
	mounts := slices.Clone(s.Mounts)
	slices.SortFunc(mounts, func(a, b Mount) int { return slices.Compare(parts(a.Path), parts(b.Path)) })
	if len(mounts) > 0 && mounts[0].Path == "/" {
		if mounted, err = s.enterRoot(mounts[0]); err != nil {
			return mounted, err
		}
		mounts = mounts[1:]
	}
	for _, dir := range hidden {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=1777,size=64m"); err != nil {
			return mounted, fmt.Errorf("cannot hide %s: %w", dir, err)
		}
		mounted = append(mounted, dir)
	}
	for _, m := range mounts {
		if slices.ContainsFunc(hidden, func(dir string) bool { return strings.HasPrefix(m.Path, dir+"/") }) {
			if err := os.MkdirAll(m.Path, 0o755); err != nil {
				return mounted, err
			}
		}
		if err := m.mount(m.Path); err != nil {
			return mounted, err
		}
		mounted = append(mounted, m.Path)
	}
	return mounted, nil
}

// enterRoot shows what the image of a root filesystem has, each directory at its own place: the root itself cannot be
// replaced below a program that is to run there. A directory that is another filesystem stays the host's; below the others
// nothing of the host is left.
func (s *Stage) enterRoot(m Mount) (mounted []string, err error) {
	if err := m.mount(s.Root); err != nil {
		return nil, err
	}
	mounted = append(mounted, s.Root)
	entries, err := os.ReadDir(s.Root)
	if err != nil {
		return mounted, err
	}
	var root unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		return mounted, err
	}
	for _, e := range entries {
		from, to := filepath.Join(s.Root, e.Name()), "/"+e.Name()
		var live unix.Stat_t
		if !e.IsDir() || unix.Lstat(to, &live) != nil || live.Dev != root.Dev || live.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			return mounted, fmt.Errorf("cannot show the image's %s: %w", to, err)
		}
		mounted = append(mounted, to)
	}
	return mounted, nil
}

// readOnly makes everything in this mount table read-only; the filesystems themselves are not touched.
func readOnly() error {
	err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	f, err := os.Open("/proc/thread-self/mountinfo") // before Linux 5.12
	if err != nil {
		return err
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return err
	}
	flags := map[string]uintptr{"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
		"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME}
	for _, m := range mounts {
		how := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY)
		for word := range strings.SplitSeq(m.Options, ",") {
			how |= flags[word]
		}
		err := unix.Mount("", m.Mountpoint, "", how, "")
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // another mount hides those
			return fmt.Errorf("%s: %w", m.Mountpoint, err)
		}
	}
	return nil
}

func (m Mount) mount(at string) error {
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID)
	if m.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(m.Device, at, m.FSType, flags, m.Options); err != nil {
		return fmt.Errorf("cannot mount %s (%s, %s): %w", m.Device, m.FSType, cmp.Or(m.Options, "no options"), err)
	}
	return nil
}

// unmount undoes enter, by the same thread: then all is written, and the devices are free.
func unmount(mounted []string) error {
	var errs []error
	for _, path := range slices.Backward(mounted) {
		if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
			errs = append(errs, fmt.Errorf("cannot unmount the image at %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

func parts(path string) []string { return strings.Split(filepath.Clean(path), "/") }

// apart runs f on a thread that ends with it. It is never the first thread, whose namespaces count as those of the process.
func apart(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return // the goroutine ends, and the thread that is locked to it
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		apart(f)
	}()
	<-done
}
