package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A cgroup (cgroups(7), version 2) holds one program and all that it starts, also what has left its process group and its
// session. It lies below our own, which systemd has to have given us to divide (Delegate=). Nothing is enabled in it: it
// only says who belongs together.
//
// All of it goes by descriptors: a program may have to be killed while the filesystem that a path leads through is frozen.
type cgroup struct {
	name string
	fd   int // its directory
}

// own is our cgroup.
type own struct {
	fd      int
	counter atomic.Uint64
}

var home = sync.OnceValues(findHome)

// Contained says in which cgroup programs get theirs, and takes care of what an earlier process of ours has left there. An
// error says why they only have process groups, out of which they can escape.
func Contained() (cgroup string, err error) {
	h, err := home()
	if err != nil {
		return "", fmt.Errorf("cannot keep programs in cgroups: %w", err)
	}
	h.sweep()
	return ownPath()
}

func findHome() (*own, error) {
	path, err := ownPath()
	if err != nil {
		return nil, err
	}
	// clone3(2) without arguments: EINVAL if it exists. A container's filter may have taken it away.
	if _, _, errno := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0); errno == unix.ENOSYS || errno == unix.EPERM {
		return nil, fmt.Errorf("cannot start a program in one: clone3: %w", errno)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if !delegated(fd) {
		unix.Close(fd)
		return nil, fmt.Errorf("%s is not ours to divide (Delegate= is not set in our unit)", path)
	}
	return &own{fd: fd}, nil
}

// ownPath is where our cgroup's directory is.
func ownPath() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			root, err := mountedAt()
			return root + path, err
		}
	}
	return "", errors.New("there is no cgroup of version 2")
}

// mountedAt is where version 2 is mounted: systemd has it there alone, or beside version 1.
func mountedAt() (string, error) {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return root, nil
		}
	}
	return "", errors.New("cgroups of version 2 are not mounted")
}

// delegated looks for systemd's mark (systemd, docs/CGROUP_DELEGATION.md).
func delegated(fd int) bool {
	for _, attr := range []string{"user.delegate", "trusted.delegate"} {
		b := make([]byte, 8)
		if n, err := unix.Fgetxattr(fd, attr, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	return false
}

// Names of cgroups: all of a whole one goes with its program.
const (
	wholePrefix = "whole-"
	loosePrefix = "loose-"
)

// make makes a cgroup for a program.
func (h *own) make(whole bool) (*cgroup, error) {
	prefix := loosePrefix
	if whole {
		prefix = wholePrefix
	}
	for {
		name := prefix + strconv.FormatUint(h.counter.Add(1), 10)
		err := unix.Mkdirat(h.fd, name, 0o755)
		if errors.Is(err, unix.EEXIST) { // what it is for has outlived an earlier process of ours
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot make a cgroup: %w", &os.PathError{Op: "mkdir", Path: name, Err: err})
		}
		g, err := h.open(name)
		if err != nil {
			return nil, errors.Join(err, unix.Unlinkat(h.fd, name, unix.AT_REMOVEDIR))
		}
		return g, nil
	}
}

func (h *own) open(name string) (*cgroup, error) {
	fd, err := unix.Openat(h.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return &cgroup{name, fd}, nil
}

// into has a program started in the cgroup: nothing that it does can come before that.
func (g *cgroup) into(a *syscall.SysProcAttr) { a.UseCgroupFD, a.CgroupFD = true, g.fd }

// kill kills everything in it; what waits in the kernel goes when that returns.
func (g *cgroup) kill() error {
	if err := writeAt(g.fd, "cgroup.kill", "1"); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return g.killEach() // before Linux 5.14
}

// killEach kills one process after the other. They are frozen, so that none forks meanwhile; SIGKILL ends what is frozen.
func (g *cgroup) killEach() error {
	err := writeAt(g.fd, "cgroup.freeze", "1")
	pids, err2 := g.pids()
	for _, pid := range pids {
		if e := unix.Kill(pid, unix.SIGKILL); e != unix.ESRCH {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, err2)
}

// release hands what is in it over to our own cgroup, where it lives on.
func (h *own) release(g *cgroup) error {
	pids, err := g.pids()
	for _, pid := range pids {
		if e := writeAt(h.fd, "cgroup.procs", strconv.Itoa(pid)); !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (g *cgroup) pids() ([]int, error) {
	fd, err := unix.Openat(g.fd, "cgroup.procs", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: g.name + "/cgroup.procs", Err: err}
	}
	f := os.NewFile(uintptr(fd), g.name)
	defer f.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(f); err != nil {
		return nil, err
	}
	var pids []int
	for _, word := range strings.Fields(text.String()) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 { // 0: of another namespace
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// longestPause is how often, at least, it is looked whether a cgroup is empty: something in it may wait in the kernel.
const longestPause = 10 * time.Second

// clear ends a cgroup whose program has gone: what is left in it is killed, or handed over. It returns when the cgroup does
// not exist any more.
func (h *own) clear(g *cgroup, whole bool) {
	defer unix.Close(g.fd)
	for pause := time.Millisecond; ; pause = min(2*pause, longestPause) {
		if whole {
			_ = g.kill() // what it did not reach is still there the next time
		} else {
			_ = h.release(g)
		}
		if err := unix.Unlinkat(h.fd, g.name, unix.AT_REMOVEDIR); !errors.Is(err, unix.EBUSY) {
			return
		}
		time.Sleep(pause)
	}
}

// sweep clears the cgroups of an earlier process of ours. Its sessions have seen the end of their input, and get as long to
// go as if it had ended them.
func (h *own) sweep() {
	fd, err := unix.Openat(h.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	dir := os.NewFile(uintptr(fd), "cgroup")
	defer dir.Close()
	entries, _ := dir.ReadDir(-1) // as far as they can be read
	for _, e := range entries {
		whole := strings.HasPrefix(e.Name(), wholePrefix)
		if !whole && !strings.HasPrefix(e.Name(), loosePrefix) {
			continue
		}
		g, err := h.open(e.Name())
		if err != nil {
			continue // it has just gone
		}
		go func() {
			if whole {
				time.Sleep(Grace)
			}
			h.clear(g, whole)
		}()
	}
}

// writeAt writes a file of a cgroup.
func writeAt(dir int, name, text string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	_, err = unix.Write(fd, []byte(text))
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}
