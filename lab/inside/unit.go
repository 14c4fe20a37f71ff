package inside

import (
	"fmt"
	"os"
	"path/filepath"
)

// unitName is the service that runs the plan's command in a guest with systemd.
const unitName = "lab-command.service"

// unit starts the agent when the guest is up: the bus answers and udev knows
// the disks.
const unit = `[Unit]
Description=Command of the lab
After=basic.target dbus.service systemd-udev-settle.service
Wants=dbus.service systemd-udev-settle.service

[Service]
ExecStart=` + SharedDir + "/" + AgentFile + ` inside
Environment=PATH=` + searchPath + ` TERM=linux
StandardInput=null
StandardOutput=kmsg
StandardError=kmsg
KillMode=process
TasksMax=infinity
LimitNOFILE=65536
`

// writeUnit puts the unit where systemd finds it, wanted by the default target.
func writeUnit(Plan) error {
	dir := "/run/systemd/system"
	wants := filepath.Join(dir, "multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return fmt.Errorf("cannot write the command's unit: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, unitName), []byte(unit), 0o644); err != nil {
		return fmt.Errorf("cannot write the command's unit: %w", err)
	}
	if err := os.Symlink(filepath.Join(dir, unitName), filepath.Join(wants, unitName)); err != nil {
		return fmt.Errorf("cannot write the command's unit: %w", err)
	}
	return nil
}
