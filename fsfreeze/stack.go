package fsfreeze

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what a block device is.
type Kind string

const (
	Disk      Kind = "disk" // whatever none of the others is
	Partition Kind = "partition"
	Loop      Kind = "loop"
	MD        Kind = "md"
	Mapped    Kind = "device-mapper"
)

// Device is a block device in a stack, with what lies below it.
type Device struct {
	Dev     uint64
	Kind    Kind
	Name    string // the kernel's: dm-3, sda1, loop0
	DM      string // device-mapper's name, or empty
	UUID    string // device-mapper's uuid, or empty
	Level   string // of an md array: raid1, linear
	Size    uint64 // bytes
	Backing string // file of a loop device, or empty
	Below   []Device
}

const (
	// maxDepth bounds a walk down a stack of devices; real ones have fewer than ten layers.
	maxDepth = 32
	// maxDevices bounds how many it meets, counting one that lies below two others twice.
	maxDevices = 4096
)

// Stack reads what lies below a block device from sysfs (root of which is sys, normally os.DirFS("/sys")):
// block/NAME/slaves for device-mapper and md, the parent directory for a partition, loop/backing_file for a loop device.
func Stack(sys fs.FS, dev uint64) (Device, error) {
	link := fmt.Sprintf("dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
	dir, err := fs.ReadLink(sys, link)
	if err != nil {
		return Device{}, fmt.Errorf("cannot find block device %d:%d: %w", unix.Major(dev), unix.Minor(dev), err)
	}
	w := walker{sys: sys, left: maxDevices}
	return w.walk(path.Join("dev/block", dir), maxDepth)
}

type walker struct {
	sys  fs.FS
	left int
}

func (w *walker) walk(dir string, depth int) (Device, error) {
	d := Device{Name: path.Base(dir)}
	if w.left--; depth == 0 || w.left < 0 {
		return d, fmt.Errorf("cannot follow the stack of devices at %s: deeper than %d, or more than %d devices", d.Name, maxDepth, maxDevices)
	}
	attr := func(name string) string {
		b, err := fs.ReadFile(w.sys, path.Join(dir, name))
		if err != nil {
			return "" // an attribute that this kind of device does not have
		}
		return strings.TrimSuffix(string(b), "\n")
	}
	var err error
	if d.Dev, err = deviceNumber(w.sys, path.Join(dir, "dev")); err != nil {
		return d, fmt.Errorf("cannot read the device number of %s: %w", d.Name, err)
	}
	var sectors uint64
	if _, err := fmt.Sscanf(attr("size"), "%d", &sectors); err == nil {
		d.Size = sectors * 512
	}
	d.DM, d.UUID, d.Backing, d.Level = attr("dm/name"), attr("dm/uuid"), attr("loop/backing_file"), attr("md/level")
	partition := attr("partition") != ""
	switch {
	case partition:
		d.Kind = Partition
	case d.DM != "":
		d.Kind = Mapped
	case d.Backing != "":
		d.Kind = Loop
	case d.Level != "":
		d.Kind = MD
	default:
		d.Kind = Disk
	}

	below := []string{}
	if partition {
		below = append(below, path.Dir(dir))
	}
	slaves, err := fs.ReadDir(w.sys, path.Join(dir, "slaves"))
	if err != nil {
		slaves = nil // partitions have none
	}
	for _, s := range slaves {
		target, err := fs.ReadLink(w.sys, path.Join(dir, "slaves", s.Name()))
		if err != nil {
			return d, fmt.Errorf("cannot follow the devices below %s: %w", d.Name, err)
		}
		below = append(below, path.Join(dir, "slaves", target))
	}
	for _, b := range below {
		child, err := w.walk(b, depth-1)
		if err != nil {
			return d, err
		}
		d.Below = append(d.Below, child)
	}
	return d, nil
}

// Walk calls f for the device and everything below it.
func (d Device) Walk(f func(Device)) {
	f(d)
	for _, b := range d.Below {
		b.Walk(f)
	}
}

// Disks names the devices at the bottom of the stack, each once.
func (d Device) Disks() []string {
	var names []string
	d.Walk(func(x Device) {
		if len(x.Below) == 0 && !slices.Contains(names, x.Name) {
			names = append(names, x.Name)
		}
	})
	slices.Sort(names)
	return names
}
