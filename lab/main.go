// Command lab boots a machine of the project's own, a User-Mode Linux guest with
// a Debian userland, and runs a command in it.
//
// Device-mapper needs root, a kernel that has it, and disks that may be broken;
// few development machines offer all three, and none of a user's should be asked
// to. A User-Mode Linux kernel is an ordinary process: it needs neither root nor
// KVM, and what goes wrong in it is gone when it ends.
//
//	lab run   [options] -- COMMAND ARG...    run a command in a guest
//	lab shell [options]                      give a prompt in one
//	lab test  BINARY ARG...                  for go test -exec: run a test binary in one
//	lab crash [options] -- COMMAND ARG... -- COMMAND ARG...
//	                                         cut the power during the first command,
//	                                         run the second on the same disks
//	lab setup [options]                      fetch and build what guests need
//	lab verify-units                         have the systemd of several releases of Debian read the units
//
// `lab run -h` lists the options.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/fermata-project/fermata/lab/inside"
)

// Exit statuses of the lab itself; any other is the command's own.
const (
	exitUsage   = 2
	exitTimeout = 124 // as timeout(1)
	exitLab     = 125 // no guest, or the guest died: as env(1) and docker
)

func main() {
	if os.Getpid() == 1 {
		inside.Init()
		os.Exit(1)
	}
	os.Exit(dispatch(os.Args[1:]))
}

// dispatch runs one verb and gives the program's exit status.
func dispatch(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return 0
	case "inside": // the lab calling itself, in the guest
		return report(inside.Agent())
	case "cut", "at": // called by commands in the guest
		code, err := inside.Crash(verb, args)
		report(err)
		return code
	case "verify-units":
		return verifyVerb()
	case "supervise": // the lab calling itself, on the host
		return report(supervise(args))
	}
	options, err := parseOptions(verb, args, os.Environ())
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return exitUsage
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	code, err := perform(ctx, verb, options)
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
	}
	return code
}

func verifyVerb() int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	return report(verifyUnits(ctx, unitReleases, os.Stdout))
}

func report(err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return 1
	}
	return 0
}

// perform does what a verb asks, with everything that it needs made first.
func perform(ctx context.Context, verb string, o options) (int, error) {
	parts, err := prepare(ctx, o)
	if err != nil {
		return failure(ctx, err)
	}
	if verb == "setup" {
		return 0, nil
	}
	run := runGuest
	switch {
	case verb == "crash":
		run = runCrash
	case o.cuts > 0:
		run = runAgain
	}
	code, err := run(ctx, o, parts, nil)
	if err != nil {
		return failure(ctx, err)
	}
	return code, nil
}

// failure gives the exit status for an error: a signal's own, a time-out's, or
// the lab's.
func failure(ctx context.Context, err error) (int, error) {
	var s signalError
	switch {
	case errors.As(context.Cause(ctx), &s):
		return 128 + int(s.signal), s
	case errors.Is(err, errTimeout):
		return exitTimeout, err
	}
	return exitLab, err
}
