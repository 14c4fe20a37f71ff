package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// lvmWithoutUdev has LVM make its device nodes itself.
const lvmWithoutUdev = `activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 }
devices { obtain_device_list_from_udev=0 external_device_info_source="none" }
`

// stopUdev ends udev for good: for a guest of the lab, whose single processor the thaw would otherwise share with what
// udev does upon each resume. On a machine with several it has one of its own.
func stopUdev() error {
	if os.Getenv("LAB_DISKS") == "" {
		return errors.New("udev is stopped in a guest of the lab only")
	}
	units := []string{"systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "systemd-udevd.service"}
	if out, err := exec.Command("systemctl", append([]string{"stop"}, units...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot stop udev: %w: %s", err, out)
	}
	if err := os.Remove("/run/udev/control"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile("/etc/lvm/lvmlocal.conf", []byte(lvmWithoutUdev), 0o644)
}
