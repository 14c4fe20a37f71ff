// Package udev ends udev in a guest of the lab, whose one processor it shares with everything else: a set of four volumes
// takes several times as long with it.
package udev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// config has LVM make its device nodes itself.
const config = `activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 }
devices { obtain_device_list_from_udev=0 external_device_info_source="none" }
`

const configFile = "/etc/lvm/lvmlocal.conf"

var units = []string{"systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "systemd-udevd.service"}

// Stop ends udev, and has LVM do without it. There should be no logical volumes then, nor when start is called, which
// undoes it.
func Stop() (start func() error, err error) {
	if os.Getenv("LAB_DISKS") == "" {
		return nil, errors.New("udev is stopped in a guest of the lab only")
	}
	start = func() error {
		if err := os.Remove(configFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return systemctl("start")
	}
	if err := systemctl("stop"); err != nil {
		return nil, err
	}
	if err := os.Remove("/run/udev/control"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, start())
	}
	if err := os.WriteFile(configFile, []byte(config), 0o644); err != nil {
		return nil, errors.Join(err, start())
	}
	return start, nil
}

func systemctl(verb string) error {
	if out, err := exec.Command("systemctl", append([]string{verb}, units...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot %s udev: %w: %s", verb, err, out)
	}
	return nil
}
