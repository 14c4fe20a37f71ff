package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRunArguments(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "argv")
	l := fakeLVM(t, `command=$1; shift 3; echo "$command $*" >>`+log+`; env | sort >`+dir+`/env; pwd >`+dir+`/pwd
if read -r x; then echo stdin >>`+log+`; fi`)
	ctx := t.Context()
	for _, c := range []struct {
		do   func() error
		want string
	}{
		{func() error {
			return l.CreateThinSnapshot(ctx, "vg", "home", "home_1", true, "fermata.prep", "fermata.set=1")
		},
			"lvcreate --yes --snapshot --activate n --setactivationskip y --ignoremonitoring --name home_1 --permission r --addtag fermata.prep --addtag fermata.set=1 vg/home"},
		{func() error { return l.ChangeTags(ctx, []string{"vg/a", "vg/b"}, []string{"x"}, []string{"y", "z"}) },
			"lvchange --addtag x --deltag y --deltag z vg/a vg/b"},
		{func() error { return l.SetReadOnly(ctx, "vg/a") }, "lvchange --permission r vg/a"},
		{func() error { return l.SetWritable(ctx, "vg/a") }, "lvchange --permission rw vg/a"},
		{func() error { return l.Activate(ctx, "vg/a", true) }, "lvchange --activate y --ignoreactivationskip vg/a"},
		{func() error { return l.Activate(ctx, "vg/a", false) }, "lvchange --activate y vg/a"},
		{func() error { return l.Deactivate(ctx, "vg/a") }, "lvchange --activate n vg/a"},
		{func() error { return l.Remove(ctx, "vg/a", "vg/b") }, "lvremove --yes --force vg/a vg/b"},
		{func() error { return l.Remove(ctx) }, ""},
		{func() error { return l.ChangeTags(ctx, []string{"vg/a"}, nil, nil) }, ""},
	} {
		os.Remove(log)
		if err := c.do(); err != nil {
			t.Error(err)
		}
		got, _ := os.ReadFile(log)
		if strings.TrimSpace(string(got)) != c.want {
			t.Errorf("ran %q\nwant %q", got, c.want)
		}
	}
	env, _ := os.ReadFile(filepath.Join(dir, "env"))
	if !slices.Contains(strings.Fields(string(env)), "LC_ALL=C") || strings.Contains(string(env), "HOME=") {
		t.Errorf("environment:\n%s", env)
	}
	if pwd, _ := os.ReadFile(filepath.Join(dir, "pwd")); string(pwd) != "/\n" {
		t.Errorf("working directory %s", pwd)
	}
}

func TestRefusesNames(t *testing.T) {
	l := fakeLVM(t, "exit 9")
	ctx := t.Context()
	for name, err := range map[string]error{
		"option as VG":       l.CreateThinSnapshot(ctx, "-f", "home", "x", false),
		"path as name":       l.CreateThinSnapshot(ctx, "vg", "home", "../x", false),
		"tag with a comma":   l.CreateThinSnapshot(ctx, "vg", "home", "x", false, "a,b"),
		"option as LV":       l.Remove(ctx, "--all"),
		"a whole group":      l.Remove(ctx, "vg"),
		"empty LV":           l.Remove(ctx, "vg/"),
		"selection as a tag": l.ChangeTags(ctx, []string{"vg/a"}, []string{"@x y"}, nil),
	} {
		var failed *Error
		if err == nil || errors.As(err, &failed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Report(ctx, "-S1"); err == nil {
		t.Error("option as VG of a report accepted")
	}
}

func TestRunFails(t *testing.T) {
	l := fakeLVM(t, `echo '  Logical volume "x" already exists in volume group "vg"' >&2
echo '  WARNING: something else.' >&2; exit 5`)
	err := l.Remove(t.Context(), "vg/x")
	var failed *Error
	if !errors.As(err, &failed) || failed.ExitCode != 5 {
		t.Fatalf("%v", err)
	}
	const want = `cannot lvremove --yes --force vg/x: Logical volume "x" already exists in volume group "vg"`
	if err.Error() != want {
		t.Errorf("%s\nwant %s", err, want)
	}
	l = fakeLVM(t, "kill -9 $$")
	if err := l.Remove(t.Context(), "vg/x"); !errors.As(err, &failed) || failed.ExitCode != -1 {
		t.Errorf("signal: %v", err)
	}
	l = New(Options{Program: filepath.Join(t.TempDir(), "none")})
	if err := l.Remove(t.Context(), "vg/x"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "lvm2") {
		t.Errorf("not installed: %v", err)
	}
}

// A caller's time is over: the child goes on, is counted, and ends by itself.
func TestRunTimeout(t *testing.T) {
	dir := t.TempDir()
	l := fakeLVM(t, `until [ -e `+dir+`/go ]; do sleep 0.02; done; echo done >`+dir+`/done`)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := l.Remove(ctx, "vg/x")
	var late *TimeoutError
	if !errors.As(err, &late) || !late.Running || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	if !l.Busy() || !l.WithoutBackup().Busy() {
		t.Error("not busy while the child runs")
	}
	if err := l.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v", err)
	}
	if err := l.Remove(ctx, "vg/x"); !errors.As(err, &late) || late.Running {
		t.Errorf("started after the deadline: %v", err)
	}
	os.WriteFile(dir+"/go", nil, 0o600)
	if err := l.Wait(t.Context()); err != nil || l.Busy() {
		t.Errorf("Wait: %v, busy %v", err, l.Busy())
	}
	if _, err := os.Stat(dir + "/done"); err != nil {
		t.Errorf("the child did not end by itself: %v", err)
	}
}

func TestOutputLimit(t *testing.T) {
	l := fakeLVM(t, "head -c 17000000 /dev/zero")
	if _, err := l.Report(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than 16 MiB") {
		t.Errorf("%v", err)
	}
}

// A daemon that a child leaves behind with its output open does not hold up the caller.
func TestDaemonLeftBehind(t *testing.T) {
	l := fakeLVM(t, "sleep 20 & exit 0")
	start := time.Now()
	if err := l.Remove(t.Context(), "vg/x"); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		udev bool
		has  bool
	}{{true, false}, {false, true}} {
		if got := strings.Contains(buildConfig("", c.udev), "udev_sync=0"); got != c.has {
			t.Errorf("udev %v: %v", c.udev, got)
		}
	}
	if c := New(Options{Config: "a=1"}).WithoutBackup().config; c != "a=1 backup { backup=0 archive=0 }" {
		t.Errorf("%q", c)
	}
}

func TestLastMessage(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"  one\n  two\n":                "two",
		"  one\n  WARNING: two\n\n":     "one",
		"File descriptor 10 (x) leaked": "",
		strings.Repeat("x", 1000):       strings.Repeat("x", 300) + "…",
	} {
		if got := lastMessage(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
