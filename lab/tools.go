package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tool runs a program of the host to its end and gives what it printed. Its
// error has the end of what the program wrote to standard error.
func tool(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// Terminate, do not kill: mmdebstrap takes its temporary directory away.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", name, err, lastLines(errs.String(), 15))
	}
	return out.String(), nil
}

// lastLines gives the last n lines of a text, without the line break at its end.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// A need is a program of the host, and the Debian package that has it.
type need struct{ program, debian string }

var (
	fetchNeeds = []need{{"apt-get", "apt"}, {"dpkg-deb", "dpkg"}}
	imageNeeds = []need{{"mmdebstrap", "mmdebstrap"}, {"genext2fs", "genext2fs"}}
	// An ordinary user builds the image in a user namespace.
	userNeeds = []need{{"newuidmap", "uidmap"}}
)

// require makes sure that the programs are there: root installs what is missing,
// anybody else is told what to install.
func require(ctx context.Context, needs ...need) error {
	missing := missingPackages(needs, func(program string) bool {
		_, err := exec.LookPath(program)
		return err == nil
	})
	if len(missing) == 0 {
		return nil
	}
	install := "apt-get install " + strings.Join(missing, " ")
	if os.Geteuid() != 0 {
		return fmt.Errorf("cannot set the lab up: missing %s: as root, run %s", strings.Join(missing, ", "), install)
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("cannot set the lab up: missing %s, and no apt-get: the lab needs a Debian host", strings.Join(missing, ", "))
	}
	say("installing %s", strings.Join(missing, ", "))
	if _, err := tool(ctx, nil, "apt-get", "-q", "update"); err != nil {
		return fmt.Errorf("cannot install %s: %w", strings.Join(missing, ", "), err)
	}
	args := append([]string{"-q", "-y", "-o", "DPkg::Lock::Timeout=120", "--no-install-recommends", "install"}, missing...)
	if _, err := tool(ctx, nil, "apt-get", args...); err != nil {
		return fmt.Errorf("cannot install %s: %w", strings.Join(missing, ", "), err)
	}
	return nil
}

// missingPackages gives the packages of the programs that are not there.
func missingPackages(needs []need, there func(program string) bool) []string {
	var missing []string
	for _, n := range needs {
		if !there(n.program) && !slices.Contains(missing, n.debian) {
			missing = append(missing, n.debian)
		}
	}
	return missing
}

// say tells the user what takes so long.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...)
}
