package lvm

import (
	"os"
	"strings"
)

// Options of New. The zero value is right for a host.
type Options struct {
	// Program is the lvm executable; by default it is looked up in the system's directories.
	Program string
	// LockDir holds LVM's lock files (global/locking_dir); by default /run/lock/lvm.
	LockDir string
	// Config is added to LVM's configuration, in lvm.conf's syntax on one line.
	Config string
}

// LVM runs LVM commands. Its methods may be called from several goroutines; LVM's own locks order the commands.
type LVM struct {
	program  string
	lockDir  string
	config   string
	children *children
	locks    *sharedLocks
}

// New makes a runner. That lvm is not installed shows when it is first run.
func New(opts Options) *LVM {
	l := &LVM{program: opts.Program, lockDir: opts.LockDir, config: opts.Config, children: newChildren(), locks: new(sharedLocks)}
	if l.program == "" {
		l.program = findProgram()
	}
	if l.lockDir == "" {
		l.lockDir = "/run/lock/lvm"
	}
	return l
}

// WithoutBackup is the same LVM, whose commands leave /etc/lvm/backup and /etc/lvm/archive alone: for when that
// filesystem may be frozen by somebody else. It shares Busy, Wait
// and the locks.
func (l *LVM) WithoutBackup() *LVM {
	c := *l
	c.config += " backup { backup=0 archive=0 }"
	return &c
}

// Busy tells whether any child is still running, forsaken ones included.
func (l *LVM) Busy() bool { return l.children.busy() }

// findProgram looks where distributions put lvm; PATH of a service or a user may lack the sbin directories.
func findProgram() string {
	for _, path := range []string{"/usr/sbin/lvm", "/sbin/lvm", "/usr/bin/lvm", "/usr/local/sbin/lvm"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "/usr/sbin/lvm"
}

// baseConfig makes the output predictable whatever lvm.conf says.
const baseConfig = `log { prefix="" silent=0 command_names=0 report_command_log=0 }` +
	` report { mark_hidden_devices=0 list_item_separator="," time_format="%Y-%m-%d %T %z" }`

// withoutUdevConfig is what LVM needs where no udev runs: it makes the nodes itself, and scans /dev for devices.
const withoutUdevConfig = ` activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 }` +
	` devices { obtain_device_list_from_udev=0 external_device_info_source="none" }`

func buildConfig(extra string, udev bool) string {
	config := baseConfig
	if !udev {
		config += withoutUdevConfig
	}
	return strings.TrimSpace(config + " " + extra)
}

func udevRuns() bool {
	_, err := os.Stat("/run/udev/control")
	return err == nil
}
