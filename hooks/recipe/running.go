package recipe

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
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
	comm, err := fs.ReadFile(proc, path.Join(pid, "comm"))
	return err == nil && slices.Contains(names, strings.TrimSuffix(string(comm), "\n"))
}
