package main

import (
	"fmt"
	"path/filepath"

	"github.com/fermata-project/fermata/lab/inside"
)

// A machine is what a kernel's command line describes.
type machine struct {
	kernel  kernel
	dir     string   // the guest's; the kernel's working directory
	image   string   // file of the root filesystem
	program string   // file of the project's programs, or empty
	disks   []string // files
	memory  int64    // bytes
	tempdir string   // where the file that is the memory lives
	shell   bool
}

// shellFD is the kernel's descriptor of the terminal of `lab shell`.
const shellFD = 3

// commandLine is the kernel's command line. What the kernel prints goes to the
// process's standard error by the kernel's own console for that, which keeps
// nothing back: the last words before a panic arrive. The terminals are void,
// except the second for a shell.
func (m machine) commandLine() []string {
	terminal := "con1=null"
	if m.shell {
		terminal = fmt.Sprintf("con1=fd:%d", shellFD)
	}
	args := []string{
		fmt.Sprintf("mem=%dM", m.memory>>20),
		"umid=u", "uml_dir=" + m.dir + "/",
		"console=tty0", "con=null", "con0=null,fd:1", terminal, "ssl=null",
		"root=hostfs", "rootfstype=hostfs", "rootflags=" + filepath.Join(m.dir, "root"), "rw",
		"init=/lab/" + inside.AgentFile,
		// A panic ends the guest at once, and an oops is as bad.
		"panic=-1", "oops=panic",
		"systemd.show_status=false", "systemd.log_target=kmsg",
		"net.ifnames=0", "random.trust_cpu=on",
	}
	args = append(args, blockDevice(inside.ImageDevice, "r", m.image))
	if m.program != "" {
		args = append(args, blockDevice(inside.ProgramsDevice, "r", m.program))
	}
	for i, name := range diskNames(len(m.disks)) {
		args = append(args, blockDevice(name, "", m.disks[i]))
	}
	return args
}

// blockDevice is the argument that makes a file a device, /dev/ubdX.
func blockDevice(device, flags, file string) string {
	number := device[len(device)-1] - 'a'
	return fmt.Sprintf("ubd%d%s=%s", number, flags, file)
}
