package inside

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageVolume is where the first root has the thin volume that becomes the
// second.
const stageVolume = "/volume"

// RootVolume is the logical volume that is the root of a guest that wants one.
// Its pool has as much room again, and more.
const RootVolume = "lab/root"

// RootDisk is the size in bytes of the disk that it lies on.
const RootDisk = 8 << 30

// rootCommands make the volume on a disk. The image is ext2; ext4 it becomes here.
func rootCommands(disk string) [][]string {
	vg, _, _ := strings.Cut(RootVolume, "/")
	device := "/dev/" + RootVolume
	return [][]string{
		{"/sbin/pvcreate", "-qq", disk},
		{"/sbin/vgcreate", "-qq", vg, disk},
		{"/sbin/lvcreate", "-qq", "-L", "7g", "--thinpool", vg + "/pool", "--poolmetadatasize", "16m", "--zero", "n", "--monitor", "n"},
		{"/sbin/lvcreate", "-qq", "-V", "3g", "--monitor", "n", "--thin", "-n", strings.TrimPrefix(RootVolume, vg+"/"), vg + "/pool"},
		{"/bin/dd", "if=" + ImageDevice, "of=" + device, "bs=2M", "iflag=direct", "oflag=direct", "conv=sparse", "status=none"},
		{"/sbin/tune2fs", "-O", "has_journal,extents", device},
		{"/sbin/resize2fs", "-f", device},
	}
}

// moveToVolume makes the root that makeRoot has made one of a thin volume: made,
// unless the disk has it already, as after a power cut. What does the work is the
// image's own: an initramfs would not do it otherwise, udev included.
func moveToVolume(p Plan) error {
	m := &mounter{}
	for _, module := range []string{"ext4", "dm-thin-pool"} {
		m.modprobe(module, "")
	}
	if m.err != nil {
		return m.err
	}
	fresh := false
	if err := withUdev(func() error {
		if fresh = inImage("/sbin/lvs", RootVolume) != nil; !fresh {
			return inImage("/sbin/lvchange", "-ay", RootVolume)
		}
		for _, c := range rootCommands(p.Root) {
			if err := inImage(c...); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	m.mount("/dev/mapper/"+strings.ReplaceAll(RootVolume, "/", "-"), stageVolume, "ext4", 0, "")
	if m.err != nil {
		return m.err
	}
	if p.Programs && fresh {
		if err := os.CopyFS(stageVolume, os.DirFS(stagePrograms)); err != nil {
			return fmt.Errorf("cannot install the programs: %w", err)
		}
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		m.mount(stageRoot+dir, stageVolume+dir, "", unix.MS_MOVE, "")
	}
	m.finish(stageVolume, p)
	if m.err == nil {
		m.err = os.NewSyscallError("unmount the overlay", unix.Unmount(stageRoot, unix.MNT_DETACH))
	}
	return m.err
}

// withUdev does something while udev runs, as it does in an initramfs: what it
// learns of the volume stays in /run/udev.
func withUdev(do func() error) error {
	if err := inImage("/lib/systemd/systemd-udevd", "--daemon", "--resolve-names=never"); err != nil {
		return err
	}
	if err := inImage("/bin/udevadm", "trigger", "--action=add", "--subsystem-match=block"); err != nil {
		return err
	}
	if err := inImage("/bin/udevadm", "settle"); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := inImage("/bin/udevadm", "settle"); err != nil {
		return err
	}
	return inImage("/bin/udevadm", "control", "--exit")
}

// inImage runs a program of the image.
func inImage(argv ...string) error {
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = systemdEnv
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: stageRoot}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make the root volume: %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
