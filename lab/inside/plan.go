// Package inside is the half of the lab that runs in the guest: it makes the
// guest's root filesystem out of the image, starts the guest's init, and runs
// the command there.
//
// The lab's own program is the guest's first process, so that the image needs to
// hold nothing of the lab. It is told what to do by a plan, a JSON file in the
// one directory that host and guest share, and answers in the same directory:
// two files grow with what the command prints, a third receives how it ended.
// Files on hostfs are written through to the host at once, lose nothing, and
// carry any byte; User-Mode Linux's consoles do neither.
package inside

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Names in the shared directory.
const (
	PlanFile   = "plan.json" // what to do, written by the lab
	StdoutFile = "stdout"    // what the command wrote there
	StderrFile = "stderr"    // what the command wrote there
	StatusFile = "status"    // one Status as JSON, ended by a newline
	CutFile    = "cut"       // not empty: the power is to be cut
	AgentFile  = "agent"     // the lab's own program
)

// SharedDir is where the shared directory is mounted in the running guest.
const SharedDir = "/run/lab"

// The guest's own block devices stand at the end of User-Mode Linux's sixteen,
// so that the disks of a test begin at /dev/ubda.
const (
	ImageDevice    = "/dev/ubdp"
	ProgramsDevice = "/dev/ubdo"
)

// Plan is what the guest has to do.
type Plan struct {
	// Modules is the host's directory of the kernel's modules, and Release the
	// name under which modprobe looks for it.
	Modules, Release string
	// Seed is what the guest's random numbers start from: a new machine has few
	// events to draw them from, and Linux 5.10 makes getrandom(2) wait for them.
	Seed []byte
	// Programs says whether ProgramsDevice holds the project's programs, to be
	// laid over the image.
	Programs bool
	// Root is the disk whose thin volume, RootVolume, is to be the root; empty: an
	// overlay of the image, in memory.
	Root string
	// Systemd chooses the init: systemd, or a small one of the lab's own.
	Systemd bool
	// Shares are directories of the host, mounted at their own path.
	Shares []Share
	// Command is run in Dir with Env added to its environment.
	Command []string
	Dir     string
	Env     []string
	// Shell runs Command on a terminal instead, Rows by Cols characters.
	Shell      bool
	Rows, Cols uint16
}

// Share is a directory of the host that the guest sees at the same path.
type Share struct {
	Path     string
	Writable bool
}

// Status is how the command ended: its exit status, or 128 plus the number of
// the signal that ended it, as a shell has it. Error is set instead when the
// guest could not run it at all.
type Status struct {
	Code  int
	Error string `json:",omitempty"`
}

// readPlan reads the plan in the shared directory.
func readPlan(shared string) (Plan, error) {
	var p Plan
	data, err := os.ReadFile(filepath.Join(shared, PlanFile))
	if err != nil {
		return p, fmt.Errorf("cannot read the guest's plan: %w", err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("cannot read the guest's plan: %w", err)
	}
	return p, nil
}

// writeStatus tells the lab how the command ended. The lab takes the status for
// whole when it sees the newline.
func writeStatus(shared string, s Status) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(shared, StatusFile), append(data, '\n'), 0o600)
}
