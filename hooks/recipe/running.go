package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ProcFS is the kernel's list of processes.
var ProcFS = os.DirFS("/proc")

// Local says whether a host is a socket's path or the loopback, so that its
// server would be a process of this host.
func Local(host string) bool {
	ip := net.ParseIP(host)
	return strings.HasPrefix(host, "/") || host == "localhost" || ip != nil && ip.IsLoopback()
}

// AnyProcess returns the number of some process that has one of these names
// (/proc/PID/comm: 15 bytes at most), or 0.
func AnyProcess(proc fs.FS, names ...string) (int, error) {
	entries, err := fs.ReadDir(proc, ".")
	if err != nil {
		return 0, fmt.Errorf("the list of processes cannot be read: %w", err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && IsProcess(proc, e.Name(), names...) {
			return pid, nil
		}
	}
	return 0, nil
}

// IsProcess says whether the process with this number has one of these names.
func IsProcess(proc fs.FS, pid string, names ...string) bool {
	if _, err := strconv.ParseUint(pid, 10, 31); err != nil {
		return false
	}
	comm, err := fs.ReadFile(proc, path.Join(pid, "comm"))
	return err == nil && slices.Contains(names, strings.TrimSuffix(string(comm), "\n"))
}

// Refused says whether an error means that nobody listens at an address.
func Refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// ProvenDown is nil if no server with one of these names can be behind an address
// where nobody listens, which is a socket's path or host:port. With a pid file
// that decides, for it is missing, empty or stale then; without, no process of
// this host may have such a name. The error says what speaks against it.
func ProvenDown(address, pidFile string, proc fs.FS, names ...string) error {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	if !Local(host) {
		return fmt.Errorf("whether %s has a server cannot be seen from here", host)
	}
	if pidFile != "" {
		file, err := os.ReadFile(pidFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		pid := strings.TrimSpace(string(file))
		if IsProcess(proc, pid, names...) {
			return fmt.Errorf("process %s of %s is a server", pid, pidFile)
		}
		return nil
	}
	pid, err := AnyProcess(proc, names...)
	if err != nil {
		return err
	}
	if pid != 0 {
		return fmt.Errorf("process %d is a server: name the right address with --address, or the pid file of this one with --pid-file", pid)
	}
	return nil
}
