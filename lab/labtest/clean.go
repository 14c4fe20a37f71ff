package labtest

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// CheckClean compares, after the test and all its cleanups, what exists with what existed when it was called: device-mapper
// tables, what has an inactive one or is suspended, logical volumes, loop devices, mounts, links to exposed snapshots, records of
// mounts, and processes of Fermata's writers and plug-ins, and their cgroups. Call it first in a test.
func CheckClean(t testing.TB) {
	t.Helper()
	compare(t, func() map[string]string { return state(t) })
}

// CheckDirectory compares the files of a directory in which Fermata keeps what belongs to snapshots, before what is set up
// later is cleaned up with after. A lock file stays.
func CheckDirectory(t testing.TB, dir string) {
	t.Helper()
	compare(t, func() map[string]string { return map[string]string{dir: files(t, dir)} })
}

func compare(t testing.TB, look func() map[string]string) {
	t.Helper()
	before := look()
	t.Cleanup(func() {
		var d string
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) { // udev lets go late
			if d = diff(before, look()); d == "" || time.Now().After(end) {
				break
			}
		}
		if d != "" {
			t.Errorf("left behind:\n%s", d)
		}
	})
}

func state(t testing.TB) map[string]string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	cgroups, err := filepath.Glob("/sys/fs/cgroup/fermata.slice/fermatad.service/*-*")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"device-mapper":        Run(t, "dmsetup", "table"),
		"device-mapper, state": Run(t, "dmsetup", "info", "-c", "--noheadings", "-o", "name,attr"),
		"LVs":                  Run(t, "lvs", "-a", "--noheadings", "-o", "vg_name,lv_name,lv_tags"),
		"loop devices":         attributes("/sys/block/loop*/loop/backing_file"),
		"mounts":               string(mounts),
		"links":                files(t, "/dev/fermata"),
		"records of mounts":    files(t, "/run/fermata/mounts"),
		"writers and plug-ins": programs(),
		"cgroups":              regexp.MustCompile(`(?m)\d+$`).ReplaceAllString(strings.Join(cgroups, "\n"), ""),
	}
}

// attributes are the texts of files, with their names: those that are there.
func attributes(pattern string) string {
	names, _ := filepath.Glob(pattern) // refuses only a pattern that none is
	var out strings.Builder
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil {
			fmt.Fprintf(&out, "%s %s", name, b)
		}
	}
	return out.String()
}

// programs are the commands of Fermata's writers and plug-ins that run, without their process ids: a daemon that starts again
// starts its plug-ins again.
func programs() string {
	var found []string
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		comm, _ := os.ReadFile(name)
		if !strings.HasPrefix(string(comm), "fermata-writer") && !strings.HasPrefix(string(comm), "fermata-provide") { // the kernel knows 15 characters of a name
			continue
		}
		if b, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline")); err == nil {
			command := strings.ReplaceAll(strings.TrimRight(string(b), "\x00"), "\x00", " ") // empty: it is dead, and was not waited for
			found = append(found, cmp.Or(command, strings.TrimSpace(string(comm))+", dead")+"\n")
		}
	}
	slices.Sort(found)
	return strings.Join(found, "")
}

// files lists the files and links below a directory, with their sizes or targets.
func files(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".lock") {
			return err
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		target, _ := os.Readlink(path)
		fmt.Fprintf(&out, "%s %d %s\n", path, info.Size(), target)
		return nil
	})
	if err != nil {
		t.Errorf("cannot list %s: %v", dir, err)
	}
	return out.String()
}

func diff(before, after map[string]string) string {
	var out strings.Builder
	for _, what := range slices.Sorted(maps.Keys(before)) {
		if b, a := before[what], after[what]; a != b {
			fmt.Fprintf(&out, "%s before:\n%s%s after:\n%s", what, b, what, a)
		}
	}
	return out.String()
}
