package fsfreeze

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// LockMemory makes this process ready for a freeze window: its memory is pinned and the garbage collector rests, so that
// the window neither faults nor stops. The function that it returns ends both.
func LockMemory() (unlock func() error, err error) {
	runtime.GC()
	percent := debug.SetGCPercent(-1)
	if err := PinMemory(); err != nil {
		debug.SetGCPercent(percent)
		return nil, errors.Join(err, unix.Munlockall())
	}
	return func() error {
		debug.SetGCPercent(percent)
		return unix.Munlockall()
	}, nil
}

// PinMemory keeps everything that this process has in memory there, now and later, and reads in every page of its
// program: a page that has to be read from a suspended device, or from swap on one, is a deadlock. Anonymous memory that
// has never been touched is left alone (MCL_ONFAULT, mlockall(2)): there is nothing to read in for it, and the Go runtime
// maps some 64 MiB of it that it does not use.
func PinMemory() error {
	err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	if err == nil {
		err = touchProgram()
	}
	if err != nil {
		return fmt.Errorf("cannot lock memory: %w (the unit needs LimitMEMLOCK=infinity)", err)
	}
	return nil
}

// touchProgram reads in every page that is mapped from a file, and locks it.
func touchProgram() error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var from, to uintptr
		fields := strings.Fields(lines.Text()) // address perms offset dev inode path (proc_pid_maps(5))
		if len(fields) < 6 || fields[4] == "0" || !strings.HasPrefix(fields[1], "r") {
			continue
		}
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK, from, to-from, 0); errno != 0 {
			return errors.Join(errno, f.Close())
		}
	}
	return errors.Join(lines.Err(), f.Close())
}

// ThawPath thaws the filesystem that is mounted at path; false if it was not frozen.
func ThawPath(path string) (thawed bool, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOATIME|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, &Error{"thaw", path, err}
	}
	err = Thaw(fd)
	thawed = err == nil
	if errors.Is(err, unix.EINVAL) {
		err = nil // not frozen
	}
	if err != nil {
		err = &Error{"thaw", path, err}
	}
	return thawed, errors.Join(err, unix.Close(fd))
}
