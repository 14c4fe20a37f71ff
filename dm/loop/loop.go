// Package loop makes block devices of files, by the kernel's loop driver and without losetup (include/uapi/linux/loop.h).
// It needs Linux 5.8, for LOOP_CONFIGURE, which makes a device in one step that nobody ever sees half made.
package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const control = "/dev/loop-control"

// Options of Attach. The zero value is an ordinary loop device with sectors of 512 bytes.
type Options struct {
	ReadOnly bool
	// DirectIO goes past the page cache where the file's filesystem can; where it cannot, the kernel does without.
	DirectIO bool
	// BlockSize is the size of the device's sectors in bytes, a power of two from 512 to 4096; 0: 512.
	BlockSize uint32
}

// attempts bounds how often somebody else may be quicker to take a free device.
const attempts = 64

// Attach makes a loop device of a file and returns its path, such as /dev/loop0. It lasts until Detach.
func Attach(file *os.File, o Options) (device string, err error) {
	ctl, err := os.OpenFile(control, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("cannot make a loop device: %w (try modprobe loop)", err)
	}
	defer ctl.Close()
	for range attempts {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("cannot make a loop device of %s: %w", file.Name(), err)
		}
		device = fmt.Sprintf("/dev/loop%d", n)
		if err = configure(device, file, o); errors.Is(err, unix.EBUSY) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot make loop device %s of %s: %w", device, file.Name(), err)
		}
		return device, nil
	}
	return "", fmt.Errorf("cannot make a loop device of %s: others take every free one", file.Name())
}

func configure(device string, file *os.File, o Options) error {
	f, err := open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	c := unix.LoopConfig{Fd: uint32(file.Fd()), Size: max(o.BlockSize, 512)}
	if o.ReadOnly {
		c.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	if o.DirectIO {
		c.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	copy(c.Info.File_name[:len(c.Info.File_name)-1], file.Name()) // for losetup; cut to what the kernel keeps
	return unix.IoctlLoopConfigure(int(f.Fd()), &c)
}

// open waits for the node of a device that has just come into being.
func open(device string) (f *os.File, err error) {
	for end := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		f, err = os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENXIO) || time.Now().After(end) {
			return f, err
		}
	}
}

// detachTime is how long Detach waits for others, such as udev, to close the device.
const detachTime = 2 * time.Second

// Detach takes the file away from a loop device, and returns when that has happened. It is no error if it has none. The
// error is EBUSY if somebody has the device open: then the kernel detaches it with the last close.
func Detach(device string) error {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot detach %s: %w", device, err)
	}
	err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
	if err = errors.Join(err, f.Close()); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("cannot detach %s: %w", device, err)
	}
	for end := time.Now().Add(detachTime); attached(os.DirFS("/sys"), path.Base(device)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("cannot detach %s: %w: it goes when whoever has it open closes it", device, unix.EBUSY)
		}
	}
	return nil
}

func attached(sys fs.FS, name string) bool {
	_, err := fs.Stat(sys, "block/"+name+"/loop/backing_file")
	return err == nil
}

// Grow makes a loop device as large as its file has become.
func Grow(device string) error {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot grow %s: %w", device, err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("cannot grow %s: %w", device, err)
	}
	return nil
}

// Of finds the loop devices of a file by its path, also if the file has been removed since. sys is normally
// os.DirFS("/sys").
func Of(sys fs.FS, file string) ([]string, error) {
	all, err := fs.Glob(sys, "block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("cannot look for loop devices: %w", err)
	}
	var out []string
	for _, attr := range all {
		b, err := fs.ReadFile(sys, attr)
		if err != nil {
			continue // it has just gone
		}
		backing := strings.TrimSuffix(string(b), "\n")
		if backing == file || backing == file+" (deleted)" {
			out = append(out, "/dev/"+strings.Split(attr, "/")[1])
		}
	}
	return out, nil
}
