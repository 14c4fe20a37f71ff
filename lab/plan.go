package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/lab/inside"
)

// makePlan tells the guest what to do.
func makePlan(o options, p parts) (inside.Plan, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return inside.Plan{}, err
	}
	seed := make([]byte, 64)
	rand.Read(seed)
	disks, root := diskNames(len(o.disks)), ""
	if o.volume {
		root, disks = disks[0], disks[1:]
	}
	plan := inside.Plan{
		Seed:     seed,
		Modules:  p.kernel.modules,
		Release:  p.kernel.release,
		Programs: p.programs != "",
		Root:     root,
		Systemd:  o.systemd,
		Shares:   []inside.Share{{Path: p.repository}},
		Command:  o.command,
		Dir:      cwd,
		Env:      append([]string{"FERMATA_LAB=1", "LAB=" + inside.SharedDir + "/" + inside.AgentFile, "LAB_DISKS=" + strings.Join(disks, " ")}, o.env...),
		Shell:    o.shell,
	}
	if o.test {
		plan.Command, plan.Shares, err = testPlan(o.command, cwd, plan.Shares)
		if err != nil {
			return plan, err
		}
	}
	if o.shell {
		plan.Rows, plan.Cols = terminalSize()
	}
	return plan, nil
}

// testPlan makes a test binary's own path absolute, and shares the directories
// that it reads and writes beside the repository: the one that `go test` built
// it in, and those of its profiles.
func testPlan(command []string, cwd string, shares []inside.Share) ([]string, []inside.Share, error) {
	binary := absolute(cwd, command[0])
	if _, err := os.Stat(binary); err != nil {
		return nil, nil, fmt.Errorf("cannot run the test binary: %w", err)
	}
	writable := []string{filepath.Dir(binary)}
	for _, a := range command[1:] {
		name, value, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		switch name {
		case "test.gocoverdir", "test.outputdir":
			writable = append(writable, absolute(cwd, value))
		case "test.testlogfile", "test.coverprofile", "test.cpuprofile", "test.memprofile", "test.trace":
			if filepath.IsAbs(value) {
				writable = append(writable, filepath.Dir(value))
			}
		}
	}
	for _, dir := range writable {
		shares = addShare(shares, inside.Share{Path: dir, Writable: true})
	}
	return append([]string{binary}, command[1:]...), shares, nil
}

// addShare adds a directory unless it is already seen with the same rights.
func addShare(shares []inside.Share, s inside.Share) []inside.Share {
	for _, have := range shares {
		if have.Writable == s.Writable && (s.Path == have.Path || strings.HasPrefix(s.Path, have.Path+"/")) {
			return shares
		}
	}
	return append(shares, s)
}

func absolute(cwd, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(cwd, name)
}
