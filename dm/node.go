package dm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mapperDir   = "/dev/mapper"
	controlPath = mapperDir + "/" + unix.DM_CONTROL_NODE
	// The minor number that is reserved for it (MAPPER_CTRL_MINOR in include/linux/miscdevice.h): opening it makes the
	// kernel load the module.
	controlMinor = 236
	miscMajor    = 10
	// nodeWait is how long udev may take; a busy host needs a second or two.
	nodeWait = 10 * time.Second
)

// NodePath is where a device with that name stands.
func NodePath(name string) string { return filepath.Join(mapperDir, name) }

// udevRuns tells whether udev makes the nodes. Its socket is the only sign that libudev uses, too.
func udevRuns() bool {
	_, err := os.Stat("/run/udev/control")
	return err == nil
}

// EnsureNode returns when the node of a device is in /dev/mapper: made by udev, if it runs, and otherwise by us. If udev
// does not get it done within 10 s, we make it too: udev replaces it when it comes to it.
func EnsureNode(name string, dev Dev) error {
	path := NodePath(name)
	if nodeIs(path, dev) {
		return nil
	}
	if udevRuns() && poll(nodeWait, func() bool { return nodeIs(path, dev) }) {
		return nil
	}
	if err := makeNode(path, unix.S_IFBLK|0o600, dev); err != nil {
		return fmt.Errorf("cannot make node %s: %w", path, err)
	}
	return nil
}

// RemoveNode returns when the node of a removed device is gone from /dev/mapper. A node of that name for another device
// stays.
func RemoveNode(name string, dev Dev) error {
	path := NodePath(name)
	gone := func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist) || (err == nil && !dangling(path) && !nodeIs(path, dev))
	}
	if gone() || (udevRuns() && poll(nodeWait, gone)) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove node %s: %w", path, err)
	}
	return nil
}

// nodeIs tells whether a path leads to the block device.
func nodeIs(path string, dev Dev) bool {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && Dev(st.Rdev) == dev
}

// dangling tells whether a path is a symbolic link to nothing: udev's, to a node that devtmpfs has removed already.
func dangling(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// makeNode replaces what stands at path by a device node, without a moment in which there is none.
func makeNode(path string, mode uint32, dev Dev) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := fmt.Sprintf("%s/.fermata-%d-%s", filepath.Dir(path), os.Getpid(), strings.ReplaceAll(dev.String(), ":", "-"))
	if err := unix.Mknod(temp, mode, int(dev)); err != nil {
		return os.NewSyscallError("mknod", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// poll tries until it succeeds or the time is over.
func poll(limit time.Duration, done func() bool) bool {
	pause := time.Millisecond
	for end := time.Now().Add(limit); !done(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(pause)
		pause = min(2*pause, 50*time.Millisecond)
	}
	return true
}

// makeControlNode makes /dev/mapper/control where nobody else does: in a guest without udev, in a container.
func makeControlNode() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w, and only root can make it", unix.ENOENT)
	}
	minor := uint32(controlMinor)
	if f, err := os.Open("/proc/misc"); err == nil {
		defer f.Close()
		if m, ok := miscMinor(f, "device-mapper"); ok {
			minor = m
		}
	}
	return makeNode(controlPath, unix.S_IFCHR|0o600, MkDev(miscMajor, minor))
}

// miscMinor finds a driver in the text of /proc/misc, whose lines are "236 device-mapper".
func miscMinor(r io.Reader, driver string) (uint32, bool) {
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 2 || f[1] != driver {
			continue
		}
		n, err := parseUint(f[0])
		return uint32(n), err == nil && n <= maxMinor
	}
	return 0, false
}
