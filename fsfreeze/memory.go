package fsfreeze

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// restingLimit is how much memory, in bytes, lets the garbage collector run in a freeze window after all: a hold may last a
// minute, and others go on asking meanwhile.
const restingLimit = 256 << 20

// LockMemory makes this process ready for a freeze window: its memory is pinned and the garbage collector rests, so that
// the window neither faults nor stops. The function that it returns ends both.
func LockMemory() (unlock func() error, err error) {
	runtime.GC()
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(restingLimit)
	restore := func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
	if err := PinMemory(); err != nil {
		restore()
		return nil, errors.Join(err, unix.Munlockall())
	}
	return func() error {
		restore()
		return unix.Munlockall()
	}, nil
}

// PinMemory keeps everything that this process has in memory there, now and later, and reads in every page of its
// program and every page that has been swapped out: a page that has to be read from a suspended device in the window is a
// deadlock. Anonymous memory that has never been touched is left alone (MCL_ONFAULT, mlockall(2)): there is nothing to read
// in for it, and the Go runtime maps some 64 MiB of it that it does not use.
func PinMemory() error {
	err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	if err == nil {
		err = readIn()
	}
	if err != nil {
		return fmt.Errorf("cannot lock memory: %w (the unit needs LimitMEMLOCK=infinity)", err)
	}
	return nil
}

// mapping is a part of a process's memory.
type mapping struct {
	from, to uintptr
	readable bool
	file     bool   // it shows a file
	swapped  uint64 // KiB of it that are in swap
}

// parseMappings reads smaps (proc_pid_smaps(5)).
func parseMappings(smaps io.Reader) ([]mapping, error) {
	var out []mapping
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		key, value, err := fields[0], fields[1], error(nil)
		switch {
		case key == "Swap:" && len(out) > 0:
			out[len(out)-1].swapped, err = strconv.ParseUint(value, 10, 64)
		case !strings.HasSuffix(key, ":") && len(fields) >= 5: // address perms offset dev inode path
			m := mapping{readable: strings.HasPrefix(value, "r"), file: fields[4] != "0"}
			_, err = fmt.Sscanf(key, "%x-%x", &m.from, &m.to)
			out = append(out, m)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot understand %q in smaps: %w", lines.Text(), err)
		}
	}
	return out, lines.Err()
}

// readIn reads in what is in memory only later, or not any more: files that are mapped, and what was swapped out. What is
// locked on fault stays from then on.
func readIn() (err error) {
	smaps, err := os.ReadFile("/proc/self/smaps") // in one piece: it is our own memory that changes meanwhile
	if err != nil {
		return err
	}
	mappings, err := parseMappings(bytes.NewReader(smaps))
	if err != nil {
		return err
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mem.Close()) }()
	for _, m := range mappings {
		switch {
		case !m.readable:
		case m.file:
			if _, _, errno := unix.Syscall(unix.SYS_MLOCK, m.from, m.to-m.from, 0); errno != 0 {
				return errno
			}
		case m.swapped > 0:
			// Reading finds the swapped pages, and takes no memory for those that were never touched, which mlock would.
			if _, err := io.Copy(io.Discard, io.NewSectionReader(mem, int64(m.from), int64(m.to-m.from))); err != nil {
				return fmt.Errorf("cannot read what was swapped out: %w", err)
			}
		}
	}
	return nil
}
