package main

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/lab/inside"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"1": 1, "0": 0, "512": 512, "1K": 1 << 10, "3m": 3 << 20, "2G": 2 << 30, "4T": 4 << 40,
		"": -1, "G": -1, "-1": -1, "+1": -1, "1.5G": -1, "1GB": -1, "1 G": -1, "9999999999999T": -1, "8388608T": -1,
	} {
		got, err := parseSize(in)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
}

func TestParseOptions(t *testing.T) {
	environ := []string{"A=1", "EMPTY="}
	base := options{kernel: "6.1", systemd: true, programs: true, timeout: defaultTimeout, memory: defaultMemory}
	with := func(change func(*options)) options {
		o := base
		change(&o)
		return o
	}
	for _, test := range []struct {
		args    string
		environ []string
		want    options
		err     string // part of the error wanted
	}{
		{args: "run -- true", want: with(func(o *options) { o.command = []string{"true"} })},
		{args: "run echo --disk", want: with(func(o *options) { o.command = []string{"echo", "--disk"} })},
		{args: "run --kernel 5.10 --no-systemd --no-programs --disk 1G --disk 2M --timeout 5s --mem 2G --env A --env B=2 --env NOT --env EMPTY -- ls -l",
			want: options{kernel: "5.10", disks: []int64{1 << 30, 2 << 20}, timeout: 5 * time.Second, memory: 2 << 30,
				env: []string{"A=1", "B=2", "EMPTY="}, command: []string{"ls", "-l"}}},
		{args: "run --disk 1G --root-volume -- a", want: with(func(o *options) {
			o.volume, o.disks, o.command = true, []int64{inside.RootDisk, 1 << 30}, []string{"a"}
		})},
		{args: "shell", want: with(func(o *options) { o.shell, o.command = true, []string{"/bin/bash", "-l"} })},
		{args: "setup --kernel 6.12", want: with(func(o *options) { o.kernel, o.command = "6.12", []string{} })},
		{args: "run", err: "run wants a command"},
		{args: "setup now", err: "setup takes no argument"},
		{args: "run --kernel 4.19 -- true", err: `no kernel "4.19"`},
		{args: "run --disk 1 -- true", err: "not between"},
		{args: "run --disk x -- true", err: "not a size"},
		{args: "run --mem 1M -- true", err: "not between"},
		{args: "run --timeout -1s -- true", err: "not a time"},
		{args: "run --what -- true", err: "not defined"},
		{args: "run" + strings.Repeat(" --disk 1M", maxDisks+1) + " -- true", err: "room for 14 disks"},
		{args: "walk", err: `unknown verb "walk"`},
		{args: "crash --disk 1G -- a b -- c d", want: with(func(o *options) {
			o.disks, o.command, o.after = []int64{1 << 30}, []string{"a", "b"}, []string{"c", "d"}
		})},
		{args: "crash --at window:doing -- a -- c -- d", want: with(func(o *options) {
			o.command, o.after = []string{"/run/lab/agent", "at", "window:doing", "cut", "--", "a"}, []string{"c", "--", "d"}
		})},
		{args: "crash -- a", err: "crash wants two commands"},
		{args: "crash -- a --", err: "crash wants two commands"},
		{args: "crash -- -- a", err: "crash wants two commands"},
		{args: "run --at 1 -- a", err: "not defined"},
		{args: "run -h", err: flag.ErrHelp.Error()},
		{args: "test x.test -test.v -test.timeout=2m0s", want: options{kernel: "6.1", programs: true, test: true,
			disks: []int64{2 << 30, 2 << 30}, timeout: 2*time.Minute + testGrace, memory: defaultMemory,
			command: []string{"x.test", "-test.v", "-test.timeout=2m0s"}}},
		{args: "test x.test", environ: []string{"FERMATA_LAB_KERNEL=6.12", "FERMATA_LAB_SYSTEMD=1", "FERMATA_LAB_DISKS=1G",
			"FERMATA_LAB_TIMEOUT=1m", "FERMATA_LAB_CUTS=7", "FERMATA_LAB_MEM=512M", "FERMATA_LAB_ENV=A C=3", "FERMATA_LAB_PROGRAMS=0"},
			want: options{kernel: "6.12", systemd: true, test: true, disks: []int64{1 << 30}, timeout: time.Minute, cuts: 7,
				memory: 512 << 20, env: []string{"A=1", "C=3"}, command: []string{"x.test"}}},
		{args: "test x.test", environ: []string{"FERMATA_LAB_ROOT_VOLUME=1", "FERMATA_LAB_DISKS=1G"}, want: options{kernel: "6.1", programs: true,
			test: true, volume: true, disks: []int64{inside.RootDisk, 1 << 30}, timeout: defaultTimeout, memory: defaultMemory, command: []string{"x.test"}}},
		{args: "test x.test", environ: []string{"FERMATA_LAB_DISKS="}, want: options{kernel: "6.1", programs: true, test: true,
			timeout: defaultTimeout, memory: defaultMemory, command: []string{"x.test"}}},
		{args: "test x.test", environ: []string{"FERMATA_LAB_CUTS=-1"}, err: "bad FERMATA_LAB_CUTS"},
		{args: "test x.test", environ: []string{"FERMATA_LAB_MEM=lots"}, err: "bad FERMATA_LAB_MEM"},
		{args: "test", err: "test wants a test binary"},
	} {
		fields := strings.Fields(test.args)
		got, err := parseOptions(fields[0], fields[1:], append(test.environ, environ...))
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %q", test.args, err, test.err)
			}
		case err != nil:
			t.Errorf("%s: %v", test.args, err)
		default:
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(options{})); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", test.args, diff)
			}
		}
	}
}
