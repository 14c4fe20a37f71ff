// Package dm speaks to the kernel's device-mapper by ioctl on /dev/mapper/control, without dmsetup and without
// libdevmapper.
//
// Fermata needs its own client because of what happens while a filesystem is frozen: nothing may be executed, allocated
// or looked up then, every suspend must carry the skip-lockfs flag (Linux before 6.8 refuses to freeze twice, later
// ones leak the freeze), and each call has to be ready before the first filesystem is held. Calls of that kind are
// prepared as a Call; everything else is a method of Control.
//
// The protocol is that of include/uapi/linux/dm-ioctl.h, version 4: a fixed header with the device's name, UUID or
// number, followed by data that depends on the command. Sizes are in sectors of 512 bytes unless a name says otherwise.
//
// Files: control.go opens the node and runs requests, request.go lays them out, device.go, table.go, message.go and
// events.go are the commands, call.go those for the freeze window, node.go the names in /dev/mapper with and without
// udev; status_*.go parse what targets report.
package dm
