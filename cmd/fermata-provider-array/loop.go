package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// backing is the file that a volume lies on as a whole: that of a loop device, or of the one below a device-mapper device
// of the same size.
func backing(v protocol.Volume) (string, error) {
	dir := filepath.Join("/sys/dev/block", v.Dev)
	if v.DMName != "" {
		below, err := filepath.Glob(filepath.Join(dir, "slaves", "*"))
		if err != nil || len(below) != 1 || strings.HasPrefix(v.DMUUID, "CRYPT-") {
			return "", errors.New("not a single loop device below it, or encrypted")
		}
		if text(dir, "size") != text(below[0], "size") {
			return "", errors.New("smaller or larger than the loop device below it")
		}
		dir = below[0]
	}
	file := text(dir, "loop/backing_file")
	if file == "" || text(dir, "loop/offset") != "0" {
		return "", errors.New("not a loop device over a whole file")
	}
	return file, nil
}

func text(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

// attached finds the loop device of a file.
func attached(file string) string {
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return ""
	}
	for _, path := range found {
		if dir := filepath.Dir(path); text(dir, "backing_file") == file {
			return "/dev/" + filepath.Base(filepath.Dir(dir))
		}
	}
	return ""
}

// attach makes a loop device of a file, if it has none.
func attach(file string, readOnly bool) (string, error) {
	if device := attached(file); device != "" {
		return device, nil
	}
	mode, flags := os.O_RDWR, uint32(0)
	if readOnly {
		mode, flags = os.O_RDONLY, unix.LO_FLAGS_READ_ONLY
	}
	f, err := os.OpenFile(file, mode, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("cannot find a free loop device: %w", err)
		}
		device := fmt.Sprintf("/dev/loop%d", n)
		loop, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: flags}})
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			return device, err
		}
	}
	return "", errors.New("cannot find a free loop device: others are always faster")
}

// detach removes a file's loop device, if it has one.
func detach(file string) error {
	device := attached(file)
	if device == "" {
		return nil
	}
	loop, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("cannot detach %s: %w", device, err)
	}
	return nil
}

// clone makes a file the copy of another: by sharing its blocks, or else byte by byte.
func clone(to, from *os.File) error {
	err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTTY) {
		return err
	}
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if err := to.Truncate(info.Size()); err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(to, 0), io.NewSectionReader(from, 0, info.Size()))
	return err
}
