package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

const (
	// observeTimeout bounds each question to another process.
	observeTimeout = 10 * time.Second
	guardSocket    = "/run/fermata/guard.sock"
	maxFile        = 16 << 20 // bytes read of any file
)

// Observe looks at this host. It changes nothing, and starts fermatad only if it runs already.
func Observe(ctx context.Context) Host {
	h := Host{
		Release: strings.TrimSpace(read("/proc/sys/kernel/osrelease")),
		Root:    os.Geteuid() == 0,
		Admin:   hasSysAdmin(read("/proc/self/status")),
		Udev:    exists("/run/udev/control"),
		// dmeventd's two pipes stand there while it runs (libdevmapper-event, DM_EVENT_FIFO_SERVER).
		Dmeventd: exists("/run/dmeventd-server"),
		LVM: LVM{
			Program:   find("lvm"),
			ThinCheck: find("thin_check"),
		},
		Guard:     reachGuard(guardSocket),
		GuardUnit: first("fermata-guard.socket", "/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
	}
	h.Bus.Policy = first(api.BusName+".conf", "/etc/dbus-1/system.d", "/usr/share/dbus-1/system.d", "/usr/local/share/dbus-1/system.d")
	volumes := observeService(ctx, &h)
	observeStorage(&h, volumes)
	h.Configuration = observeConfiguration(config.Dir)
	return h
}

// observeService asks the bus, and fermatad if it runs: its inventories know more than can be seen from outside.
func observeService(ctx context.Context, h *Host) []api.Volume {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	c, err := client.Dial(ctx)
	if err != nil {
		h.Bus.Error = err.Error()
		return nil
	}
	defer c.Close()
	h.Service.Running, h.Service.Activatable, err = c.Running(ctx)
	if err != nil {
		h.Bus.Error = err.Error()
		return nil
	}
	if !h.Service.Running {
		return nil
	}
	status, err := c.Status(ctx)
	if err != nil {
		h.Service.Error = err.Error()
		return nil
	}
	h.Service.Status = &status
	volumes, err := c.Volumes(ctx)
	if err != nil {
		h.Service.Error = err.Error()
	}
	if h.Pools, err = c.Pools(ctx); err != nil {
		h.Service.Error = err.Error()
	}
	return volumes
}

// sysAdmin is CAP_SYS_ADMIN's number (capabilities(7), linux/capability.h).
const sysAdmin = 21

// hasSysAdmin looks for CAP_SYS_ADMIN among the effective capabilities in /proc/PID/status (proc_pid_status(5)).
func hasSysAdmin(status string) bool {
	for line := range strings.Lines(status) {
		if mask, ok := strings.CutPrefix(line, "CapEff:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && bits&(1<<sysAdmin) != 0
		}
	}
	return false
}

// reachGuard connects and hangs up; systemd starts the guard by that.
func reachGuard(socket string) string {
	conn, err := net.DialTimeout("unixpacket", socket, observeTimeout)
	if err != nil {
		return fmt.Sprintf("cannot reach the guard: %v", err)
	}
	conn.Close()
	return ""
}

// find a program where the daemon would; a user's PATH may lack the sbin directories.
func find(program string) string {
	return first(program, "/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin")
}

// first file of that name in the directories, or empty.
func first(name string, dirs ...string) string {
	for _, dir := range dirs {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// read a small file; what cannot be read is empty.
func read(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := readAtMost(f, maxFile)
	return text
}
