package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fermata-project/fermata/lab/inside"
)

const usage = `usage:
  lab run   [options] -- COMMAND ARG...    run a command in a guest
  lab shell [options]                      give a prompt in one
  lab test  BINARY ARG...                  for go test -exec: run a test binary in one
  lab crash [options] -- COMMAND ARG... -- COMMAND ARG...
                                           cut the power during the first command,
                                           run the second on the same disks
  lab setup [options]                      fetch and build what guests need
  lab verify-units                         have the systemd of several releases of Debian read the units

options:
  --kernel VERSION   6.1 (default), 5.10 or 6.12
  --no-systemd       a small init of the lab's own: faster; no bus, no udev
  --disk SIZE        a fresh disk, named in $LAB_DISKS; may be repeated
  --root-volume      the root is ext4 on a thin logical volume, lab/root, on a disk of
                     its own, instead of an overlay in memory
  --timeout TIME     kill the guest after so long (default 10m)
  --mem SIZE         the guest's memory (default 1G)
  --env NAME[=VALUE] pass a variable to the command; may be repeated
  --no-programs      do not build and install the project's own programs
  --at POINT         (crash) cut at this record of fermatad's journal: its number,
                     or STEP:STATE, such as window:doing

In a guest $LAB is the lab's program:
  $LAB cut                            cut the power now (lab crash)
  $LAB at list -- COMMAND             print every point that COMMAND passes
  $LAB at POINT cut -- COMMAND        cut the power at a point
  $LAB at POINT SIGNAL PROGRAM... -- COMMAND
                                      send a signal, such as KILL or STOP, there to
                                      every process of some programs or services
                                      (NAME.service)
The point is the instant after the record was written: on the guest's one processor
its writer does not run before the act. Where fermatad writes no record, a point is
the instant before or after one of its ioctls, such as window:suspend:2:before.

lab test takes them from the environment: FERMATA_LAB_KERNEL, FERMATA_LAB_SYSTEMD=1,
FERMATA_LAB_DISKS="2G 2G", FERMATA_LAB_TIMEOUT, FERMATA_LAB_MEM,
FERMATA_LAB_ENV="NAME NAME=VALUE", FERMATA_LAB_PROGRAMS=0, FERMATA_LAB_ROOT_VOLUME=1. With FERMATA_LAB_CUTS=N the
binary may ask N times for a power cut: it is run again each time, with the same
disks; $LAB_BOOT counts from 1.

go test runs it in each package's own directory, so by its full name:
  go test -exec 'go run github.com/fermata-project/fermata/lab test' ./...

The exit status is the command's (go run makes 1 of it: go build -o lab ./lab);
124 for a time-out, 125 when there was no guest or it died.
`

const (
	defaultTimeout = 10 * time.Minute
	defaultMemory  = 1 << 30
	// testGrace is how much longer than its test binary's own -test.timeout a
	// guest lives, so that the binary can still say where it hung.
	testGrace = 30 * time.Second
)

// options are what a guest is to be like and what it is to do.
type options struct {
	kernel   string
	systemd  bool
	programs bool
	volume   bool    // the root is a volume, on the first disk
	disks    []int64 // bytes
	timeout  time.Duration
	memory   int64    // bytes
	env      []string // NAME=VALUE
	command  []string
	after    []string // crash: what runs after the power has come back
	cuts     int      // test: how often the power may be cut
	shell    bool
	test     bool
}

// parseOptions reads a verb's arguments. It answers flag.ErrHelp after printing
// help.
func parseOptions(verb string, args, environ []string) (options, error) {
	o := options{kernel: defaultKernel, systemd: true, programs: true, timeout: defaultTimeout, memory: defaultMemory}
	switch verb {
	case "test":
		return parseTest(o, args, environ)
	case "run", "setup", "crash":
	case "shell":
		o.shell = true
	default:
		return o, fmt.Errorf("unknown verb %q\n%s", verb, usage)
	}
	f := flag.NewFlagSet("lab "+verb, flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(os.Stdout, usage) }
	f.StringVar(&o.kernel, "kernel", o.kernel, "")
	f.BoolFunc("no-systemd", "", func(string) error { o.systemd = false; return nil })
	f.BoolFunc("root-volume", "", func(string) error { return useRootVolume(&o) })
	f.BoolFunc("no-programs", "", func(string) error { o.programs = false; return nil })
	f.Func("disk", "", func(s string) error { return addDisk(&o, s) })
	f.Func("timeout", "", func(s string) error { return setTimeout(&o, s) })
	f.Func("mem", "", func(s string) error { return setMemory(&o, s) })
	f.Func("env", "", func(s string) error { o.env = append(o.env, lookupEnv(s, environ)...); return nil })
	var at string
	if verb == "crash" {
		f.StringVar(&at, "at", "", "")
	}
	f.SetOutput(discard{})
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.command = f.Args()
	if verb == "crash" {
		if err := o.splitCrash(at); err != nil {
			return o, err
		}
	}
	switch {
	case verb == "run" && len(o.command) == 0:
		return o, errors.New("run wants a command: lab run [options] -- COMMAND [ARG]")
	case verb == "setup" && len(o.command) > 0:
		return o, fmt.Errorf("setup takes no argument: %q", o.command[0])
	case verb == "shell" && len(o.command) == 0:
		o.command = []string{"/bin/bash", "-l"}
	}
	return o, checkKernel(o.kernel)
}

// parseTest reads the options of `lab test`, whose arguments are all the test
// binary's, from the environment.
func parseTest(o options, args, environ []string) (options, error) {
	if len(args) == 0 {
		return o, errors.New("test wants a test binary: go test -exec 'go run github.com/fermata-project/fermata/lab test' PACKAGE")
	}
	o.test, o.systemd, o.command = true, false, args
	if d, ok := testTimeout(args); ok {
		o.timeout = d + testGrace
	}
	disks := "2G 2G"
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		var err error
		switch name {
		case "FERMATA_LAB_KERNEL":
			o.kernel = value
		case "FERMATA_LAB_SYSTEMD":
			o.systemd = value == "1"
		case "FERMATA_LAB_PROGRAMS":
			o.programs = value != "0"
		case "FERMATA_LAB_DISKS":
			disks = value
		case "FERMATA_LAB_ROOT_VOLUME":
			if value == "1" {
				err = useRootVolume(&o)
			}
		case "FERMATA_LAB_TIMEOUT":
			err = setTimeout(&o, value)
		case "FERMATA_LAB_MEM":
			err = setMemory(&o, value)
		case "FERMATA_LAB_CUTS":
			if o.cuts, err = strconv.Atoi(value); err == nil && (o.cuts < 0 || o.cuts > 10000) {
				err = fmt.Errorf("%d is not between 0 and 10000", o.cuts)
			}
		case "FERMATA_LAB_ENV":
			for name := range strings.FieldsSeq(value) {
				o.env = append(o.env, lookupEnv(name, environ)...)
			}
		}
		if err != nil {
			return o, fmt.Errorf("bad %s: %w", name, err)
		}
	}
	for size := range strings.FieldsSeq(disks) {
		if err := addDisk(&o, size); err != nil {
			return o, fmt.Errorf("bad FERMATA_LAB_DISKS: %w", err)
		}
	}
	return o, checkKernel(o.kernel)
}

// testTimeout finds the -test.timeout that `go test` hands to a test binary.
func testTimeout(args []string) (time.Duration, bool) {
	for _, a := range args {
		if value, ok := strings.CutPrefix(strings.TrimLeft(a, "-"), "test.timeout="); ok {
			d, err := time.ParseDuration(value)
			return d, err == nil && d > 0
		}
	}
	return 0, false
}

// lookupEnv makes NAME=VALUE of NAME, with the value that it has in environ. A
// variable that is not set there is not passed.
func lookupEnv(s string, environ []string) []string {
	if strings.Contains(s, "=") {
		return []string{s}
	}
	for _, v := range environ {
		if strings.HasPrefix(v, s+"=") {
			return []string{v}
		}
	}
	return nil
}

func addDisk(o *options, s string) error {
	size, err := parseSize(s)
	switch {
	case err != nil:
		return err
	case size < 1<<20 || size > 1<<42:
		return fmt.Errorf("%s is not between 1M and 4T", s)
	case len(o.disks) == maxDisks:
		return fmt.Errorf("a guest has room for %d disks", maxDisks)
	}
	o.disks = append(o.disks, size)
	return nil
}

// useRootVolume gives the guest a disk for its root, before all others.
func useRootVolume(o *options) error {
	if o.volume {
		return nil
	}
	if len(o.disks) == maxDisks {
		return fmt.Errorf("a guest has room for %d disks", maxDisks)
	}
	o.volume, o.disks = true, slices.Insert(o.disks, 0, inside.RootDisk)
	return nil
}

func setMemory(o *options, s string) (err error) {
	if o.memory, err = parseSize(s); err == nil && (o.memory < 128<<20 || o.memory > 64<<30) {
		err = fmt.Errorf("%s is not between 128M and 64G", s)
	}
	return err
}

func setTimeout(o *options, s string) (err error) {
	if o.timeout, err = time.ParseDuration(s); err == nil && o.timeout <= 0 {
		err = fmt.Errorf("%s is not a time", s)
	}
	return err
}

// discard keeps package flag from printing what dispatch prints.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
