package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/lab/inside"
)

func TestCommandLine(t *testing.T) {
	m := machine{dir: "/g", image: "/i", program: "/p", disks: []string{"/d0", "/d1"}, memory: 1 << 30, shell: true}
	line := " " + strings.Join(m.commandLine(), " ") + " "
	for _, want := range []string{" mem=1024M ", " uml_dir=/g/ ", " con1=fd:3 ", " rootflags=/g/root ",
		" ubd15r=/i ", " ubd14r=/p ", " ubd0=/d0 ", " ubd1=/d1 "} {
		if !strings.Contains(line, want) {
			t.Errorf("no%sin%s", want, line)
		}
	}
}

func TestDiskNames(t *testing.T) {
	all := diskNames(maxDisks)
	if all[0] != "/dev/ubda" || all[maxDisks-1] != "/dev/ubdn" || all[maxDisks-1] >= inside.ProgramsDevice {
		t.Errorf("names %v", all)
	}
}

func TestTestPlan(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "x.test")
	if err := os.WriteFile(binary, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	repository := inside.Share{Path: "/repository"}
	command, shares, err := testPlan([]string{"x.test", "-test.v", "-test.testlogfile=" + dir + "/b001/log",
		"-test.outputdir=/elsewhere", "-test.coverprofile=relative"}, dir, []inside.Share{repository})
	if err != nil {
		t.Fatal(err)
	}
	if command[0] != binary || len(command) != 5 {
		t.Errorf("command %q", command)
	}
	want := []inside.Share{repository, {Path: dir, Writable: true}, {Path: "/elsewhere", Writable: true}}
	if diff := cmp.Diff(want, shares); diff != "" {
		t.Error(diff)
	}
	if _, _, err := testPlan([]string{"none.test"}, dir, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestMemoryDir(t *testing.T) {
	dir := t.TempDir()
	if got, err := memoryDir(1<<20, []string{"/no/such", dir}); err != nil || got != dir {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := memoryDir(1<<60, []string{dir}); err == nil || !strings.Contains(err.Error(), "MiB are free") {
		t.Errorf("error %v", err)
	}
	if left := entries(t, dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
