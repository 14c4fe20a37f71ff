package inside

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Where the guest's first root, a directory of the host, has the parts that the
// second is made of.
const (
	stageShared   = "/lab"
	stageModules  = "/modules"
	stageImage    = "/image"
	stagePrograms = "/programs"
	stageUpper    = "/upper"
	stageRoot     = "/root"
)

// StageDirs are the directories that the lab makes in the guest's first root.
var StageDirs = []string{"/dev", "/proc", stageShared, stageModules, stageImage, stagePrograms, stageUpper, stageRoot, stageVolume}

// Init is the guest's first process: it makes the root filesystem, writable over
// the read-only image, and hands over to the init that the plan asks for. It
// returns only if it cannot, having told the kernel's log why; the kernel then
// panics, and the lab shows the log's end.
func Init() {
	runtime.LockOSThread()
	err := start()
	if log, openErr := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); openErr == nil {
		fmt.Fprintf(log, "lab: %v\n", err)
	}
}

func start() error {
	plan, err := readPlan(stageShared)
	if err != nil {
		return err
	}
	if err := makeRoot(plan); err != nil {
		return err
	}
	if err := addEntropy(plan.Seed); err != nil {
		return err
	}
	root := stageRoot
	if plan.Root != "" {
		if err := moveToVolume(plan); err != nil {
			return err
		}
		root = stageVolume
	}
	if err := enterRoot(root); err != nil {
		return err
	}
	if plan.Systemd {
		if err := writeUnit(plan); err != nil {
			return err
		}
		return os.NewSyscallError("exec /sbin/init", unix.Exec("/sbin/init", []string{"/sbin/init"}, systemdEnv))
	}
	return smallInit()
}

// systemdEnv keeps systemd from taking the guest for a container or asking
// questions of a terminal that nobody watches.
var systemdEnv = []string{"PATH=" + searchPath, "TERM=linux"}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// machineID is every guest's: systemd need not make one up.
const machineID = "fe7a7afe7a7afe7a7afe7a7afe7a7a00\n"

// makeRoot mounts, below stageRoot, the image with the project's programs over
// it and a tmpfs over both, and everything that an init expects to find.
func makeRoot(p Plan) error {
	m := &mounter{}
	m.mount("proc", "/proc", "proc", 0, "")
	m.mount("none", stageModules, "hostfs", unix.MS_RDONLY, p.Modules)
	m.modprobe("overlay", "")
	// A machine with LVM has these, or their device nodes that load them.
	m.modprobe("dm-mod", "")
	m.modprobe("loop", "max_loop=0")
	m.mount(ImageDevice, stageImage, "ext2", unix.MS_RDONLY, "")
	lower := stageImage
	if p.Programs {
		m.mount(ProgramsDevice, stagePrograms, "ext2", unix.MS_RDONLY, "")
		lower = stagePrograms + ":" + stageImage
	}
	m.mount("tmpfs", stageUpper, "tmpfs", 0, "mode=755")
	m.mkdir(stageUpper + "/data")
	m.mkdir(stageUpper + "/work")
	m.mount("overlay", stageRoot, "overlay", 0,
		"lowerdir="+lower+",upperdir="+stageUpper+"/data,workdir="+stageUpper+"/work")
	m.mount("devtmpfs", stageRoot+"/dev", "devtmpfs", unix.MS_NOSUID, "mode=755")
	m.mount("proc", stageRoot+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	m.mount("sysfs", stageRoot+"/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	m.mount("tmpfs", stageRoot+"/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755")
	m.mkdir(stageRoot + SharedDir)
	m.mount(stageShared, stageRoot+SharedDir, "", unix.MS_BIND, "")
	m.finish(stageRoot, p)
	return m.err
}

// finish gives a root filesystem what belongs to this guest.
func (m *mounter) finish(root string, p Plan) {
	m.write(root+"/etc/machine-id", machineID)
	modules := root + "/usr/lib/modules/" + p.Release
	m.mkdir(modules)
	m.mount(stageModules, modules, "", unix.MS_BIND, "")
}

// enterRoot makes a directory the root. The first root is not a mount of its own
// that could be unmounted, so it is only covered.
func enterRoot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return os.NewSyscallError("move the root", err)
	}
	if err := unix.Chroot("."); err != nil {
		return os.NewSyscallError("chroot", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// smallInit is the init of a guest without systemd: it mounts what is still
// missing, starts the agent, and collects the dead until the lab ends the guest.
func smallInit() error {
	if err := prepareWithoutSystemd(); err != nil {
		return err
	}
	agent := SharedDir + "/" + AgentFile
	pid, err := syscall.ForkExec(agent, []string{agent, "inside"}, &syscall.ProcAttr{
		Env:   systemdEnv,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return os.NewSyscallError("start the agent", err)
	}
	for {
		var status unix.WaitStatus
		dead, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.ECHILD:
			unix.Pause() // the status is written: the lab is about to end the guest
		case dead == pid && (!status.Exited() || status.ExitStatus() != 0):
			return fmt.Errorf("the agent ended early: wait status %#x", int(status))
		}
	}
}

// prepareWithoutSystemd does what systemd's own start would have done.
func prepareWithoutSystemd() error {
	m := &mounter{}
	m.mkdir("/dev/pts")
	m.mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=620,ptmxmode=666,gid=5")
	m.mkdir("/dev/shm")
	m.mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	m.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	m.mkdir("/run/lock")
	m.write("/etc/lvm/lvmlocal.conf", lvmWithoutUdev)
	for _, link := range [][2]string{{"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}} {
		if m.err == nil && !exists(link[1]) {
			m.err = os.Symlink(link[0], link[1])
		}
	}
	if m.err != nil {
		return m.err
	}
	if err := unix.Sethostname([]byte("lab")); err != nil {
		return os.NewSyscallError("sethostname", err)
	}
	if out, err := exec.Command("/sbin/ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("cannot set the loopback interface up: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// lvmWithoutUdev makes LVM do by itself what it leaves to udev by default.
const lvmWithoutUdev = `# Written by the lab: this guest has no udev.
activation {
	udev_sync=0
	udev_rules=0
	verify_udev_operations=1
	monitoring=0
}
devices {
	obtain_device_list_from_udev=0
	external_device_info_source="none"
}
`

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// mounter keeps the first error of a row of steps that depend on each other.
type mounter struct{ err error }

func (m *mounter) mount(source, target, kind string, flags uintptr, options string) {
	if m.err != nil {
		return
	}
	if err := unix.Mount(source, target, kind, flags, options); err != nil {
		m.err = fmt.Errorf("cannot mount %s (%s %s) at %s: %w", source, kind, options, target, err)
	}
}

func (m *mounter) mkdir(name string) {
	if m.err == nil {
		m.err = os.MkdirAll(name, 0o755)
	}
}

func (m *mounter) write(name, text string) {
	if m.err == nil {
		m.err = os.WriteFile(name, []byte(text), 0o644)
	}
}

// modprobe loads a module, with those that it needs and with parameters of its
// own.
func (m *mounter) modprobe(name, parameters string) {
	if m.err != nil {
		return
	}
	dep, err := os.ReadFile(stageModules + "/modules.dep")
	if err != nil {
		m.err = fmt.Errorf("cannot load module %s: %w", name, err)
		return
	}
	files := moduleFiles(string(dep), name)
	for i, file := range files {
		p := ""
		if i == len(files)-1 {
			p = parameters
		}
		if m.err = loadModule(filepath.Join(stageModules, file), p); m.err != nil {
			return
		}
	}
}

func loadModule(file, parameters string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("cannot load module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), parameters, 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("cannot load module %s: %w", file, err)
	}
	return nil
}
