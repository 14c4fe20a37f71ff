package doctor

import "github.com/fermata-project/fermata/daemon/api"

// Host is what was observed. An error is kept as text: a check quotes it, and nothing decides by it.
type Host struct {
	Release string // of the kernel, as uname(2) tells it: 6.1.0-32-amd64
	Root    bool   // the effective user is root
	Admin   bool   // the process has CAP_SYS_ADMIN

	DM    DeviceMapper
	LVM   LVM
	Udev  bool // /run/udev/control exists
	Mount []Mount
	// MountError says why the mount table could not be read.
	MountError string
	Pools      []api.Pool
	PoolError  string
	// SwapOnDM are the swap areas on device-mapper devices, by device.
	SwapOnDM []string
	// Dmeventd: LVM's monitoring daemon listens.
	Dmeventd bool

	Configuration Configuration

	Bus     Bus
	Service Service
	// Guard is empty if the guard's socket accepts a connection, else why it does not.
	Guard string
	// GuardUnit is the guard's socket unit file; empty: not found.
	GuardUnit string
}

// DeviceMapper is what the kernel's device-mapper tells.
type DeviceMapper struct {
	Error   string // why the control node cannot be used
	Version string // of the ioctl interface
	Targets map[string]string
	// Modules are the kernel modules of targets that are not loaded but could be, by target.
	Modules map[string]string
}

// LVM is what is installed of LVM.
type LVM struct {
	Program   string // path of lvm; empty: not found
	Version   string // empty: not known
	ThinCheck string // path of thin_check; empty: not found
}

// Mount is one filesystem with a block device, or one of a kind that might be wanted in a set.
type Mount struct {
	Point     string
	FSType    string
	Freezable bool   // its type is one of those that can be frozen
	ReadOnly  bool   // nothing to freeze
	Provider  string // which would take it; empty: none
	Why       string // why none does, or what else is wrong
}

// Bus is the system bus.
type Bus struct {
	Error  string // why it cannot be reached
	Policy string // the file that lets fermatad own its name; empty: not found
}

// Service is fermatad as the bus sees it.
type Service struct {
	Running     bool
	Activatable bool
	Error       string // why its status could not be asked
	Status      *api.Status
}
