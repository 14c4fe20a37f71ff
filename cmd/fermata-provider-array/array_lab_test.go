//go:build lab

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

const program = "fermata-provider-array"

// TestMain: under the plug-in's name this program is the plug-in.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == program {
		main()
	}
	os.Exit(m.Run())
}

func TestArray(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Bench { return newBench(t) })
}

// A set whose plug-in misbehaves in the window leaves nothing held and nothing behind, on a real filesystem.
func TestMisbehaviour(t *testing.T) {
	b := newBench(t)
	o := b.Origin(t, 0, "one")
	o.Write(t, "before", "1")
	traces := b.Traces(t)
	for _, how := range []string{"fail", "hang", "die", "garble", "stale", "late"} {
		for _, m := range []protocol.Method{protocol.Prepare, protocol.Lock, protocol.PreCommit, protocol.Commit, protocol.PostCommit, protocol.Verify, protocol.Finalize} {
			t.Run(how+" at "+string(m), func(t *testing.T) {
				option := "--" + how + "=" + string(m)
				if how == "late" {
					option += "=5s"
				}
				p := b.start(t, option)
				err := take(t, p, o)
				if want := "plug-in array failed at " + string(m); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want that the %s", err, want)
				}
				if o.Suspended(t) {
					t.Error("it is suspended")
				}
				o.Write(t, "after", "2") // it is not frozen either
				if err := p.(io.Closer).Close(); err != nil {
					t.Error(err)
				}
				if after := b.Traces(t); after != traces {
					t.Errorf("before:\n%s\nafter:\n%s", traces, after)
				}
				if out, status := labtest.Try(t, "pgrep", "-a", "-f", program+" "); status != 1 {
					t.Errorf("a process is left: %s", out)
				}
			})
		}
	}
	if err := take(t, b.start(t), o); err != nil {
		t.Error(err)
	}
}

// take takes a set as a transaction does, undoes it if it fails, and removes it.
func take(t *testing.T, p provider.Provider, o providertest.Origin) error {
	v := o.Volume()
	part, err := p.Prepare(t.Context(), provider.Set{ID: "20261120T000000_0001", Members: 1}, []provider.Volume{v})
	frozen := false
	undo := func(err error) error {
		err = errors.Join(err, part.PostCommit())
		if frozen {
			o.Thaw(t)
		}
		part.Watch(nil)
		return errors.Join(err, part.Unlock(), part.Abort(t.Context()))
	}
	if err == nil {
		err = part.Lock(t.Context())
	}
	if err != nil {
		return undo(err)
	}
	var holds []provider.Hold
	for range part.Origins() {
		holds = append(holds, new(fsfreeze.Cell))
	}
	part.Watch(holds)
	part.(provider.Limiter).Limit(10 * time.Second)
	o.Freeze(t)
	frozen = true
	for _, step := range []func() error{part.PreCommit, part.Commit, part.PostCommit} {
		if err := step(); err != nil {
			return undo(err)
		}
	}
	o.Thaw(t)
	frozen = false
	part.Watch(nil)
	if err := errors.Join(part.Unlock(), part.Verify()); err != nil {
		return undo(err)
	}
	snaps, err := part.Finalize(t.Context(), provider.Final{Consistency: "filesystem", Created: 1})
	if err != nil {
		return undo(err)
	}
	return p.Delete(t.Context(), snaps)
}

// bench is an array on a filesystem of its own.
type bench struct {
	t       testing.TB
	control *dm.Control
	store   string
	program string
	made    int
	own     map[string]bool // loop and device-mapper devices of the bench
}

func newBench(t *testing.T) *bench {
	labtest.CheckClean(t)
	control, err := dm.Open()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := &bench{t: t, control: control, store: filepath.Join(dir, "store"), program: filepath.Join(dir, program), own: map[string]bool{}}
	if err := errors.Join(os.Symlink(self, b.program), os.Mkdir(b.store, 0o700)); err != nil {
		t.Fatal(err)
	}
	disk := labtest.Disks(t)[0]
	labtest.Run(t, "mkfs.xfs", "-q", "-f", disk)
	labtest.Run(t, "mount", disk, b.store)
	t.Cleanup(func() { labtest.Run(t, "umount", b.store) })
	if err := os.MkdirAll(filepath.Join(b.store, "volumes"), 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) start(t testing.TB, options ...string) provider.Provider {
	t.Helper()
	second := time.Second
	p, err := plugin.Start(context.Background(), plugin.Spec{
		Name: "array", Command: append([]string{b.program, "--store", b.store}, options...),
		Limits: plugin.Limits{Start: 20 * second, Query: 2 * second, Change: 3 * second, Window: 3 * second},
	}, plugin.Options{Devices: plugin.DeviceMapper{Control: b.control}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (b *bench) Provider() provider.Provider { return b.start(b.t) }
func (*bench) LongestName(int) int           { return maxName }

// Origin makes a volume of the array with ext4, or with XFS if its name says two, on a device-mapper device.
func (b *bench) Origin(t testing.TB, group int, name string) providertest.Origin {
	t.Helper()
	fstype, size := "ext4", uint64(64<<20)
	if strings.Contains(name, "two") {
		fstype, size = "xfs", 320<<20
	}
	b.made++
	device := fmt.Sprintf("lun%d", b.made)
	file := filepath.Join(b.store, "volumes", name)
	labtest.Run(t, "truncate", "-s", fmt.Sprint(size), file)
	loop, err := attach(file, false)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "dmsetup", "create", device, "--table", fmt.Sprintf("0 %d linear %s 0", size/512, loop))
	b.own[device], b.own[loop] = true, true
	info, err := b.control.Info(dm.ByName(device))
	if err == nil {
		err = dm.EnsureNode(device, info.Dev)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		labtest.Run(t, "dmsetup", "remove", device)
		if err := errors.Join(dm.RemoveNode(device, info.Dev), detach(file), os.Remove(file)); err != nil {
			t.Error(err)
		}
	})
	return providertest.Mount(t, b.control, provider.Volume{
		Dev: info.Dev, Device: device, Name: name, Size: size, FSType: fstype, MountPoint: filepath.Join("/srv", device),
	})
}

func (*bench) Content(t testing.TB, device string) providertest.Content {
	t.Helper()
	return providertest.ContentOf(t, device)
}

func (*bench) Write(t testing.TB, device, key, value string) {
	t.Helper()
	providertest.WriteTo(t, device, key, value)
}

func (b *bench) Traces(t testing.TB) string {
	t.Helper()
	var out []string
	for _, argv := range [][]string{{"dmsetup", "table"}, {"losetup", "--list", "--noheadings", "-O", "NAME,BACK-FILE"}} {
		for line := range strings.Lines(labtest.Run(t, argv...)) {
			if name := strings.Fields(line)[0]; !b.own[strings.TrimSuffix(name, ":")] {
				out = append(out, line)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(b.store, "snapshots", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(out, files...), "\n")
}

func (b *bench) Remove(t testing.TB, snapshot string) {
	t.Helper()
	for _, end := range []string{".img", ".json"} {
		if err := os.Remove(filepath.Join(b.store, "snapshots", snapshot+end)); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bench) Others(t testing.TB, o providertest.Origin) {
	t.Helper()
	file := filepath.Join(b.store, "volumes", o.Volume().Name)
	labtest.Run(t, "cp", "--reflink=always", file, file+".other")
	labtest.Run(t, "rm", file+".other")
}

func (b *bench) Fill(t testing.TB) {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(b.store, &s); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "fallocate", "-l", fmt.Sprint(s.Bavail*uint64(s.Bsize)-(1<<20)), filepath.Join(b.store, "filler"))
}

func (b *bench) Break(t testing.TB) { labtest.Run(t, "touch", filepath.Join(b.store, "broken")) }

// A loop device by itself cannot be suspended: without a filesystem that is frozen it is captured unheld, and said to be.
func TestBareLoopDevice(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(b.store, "volumes", "lun")
	labtest.Run(t, "truncate", "-s", "8M", file)
	loop, err := attach(file, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(detach(file), os.Remove(file)); err != nil {
			t.Error(err)
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(loop, &st); err != nil {
		t.Fatal(err)
	}
	p := b.start(t)
	for _, tt := range []struct {
		fstype string
		unheld bool
	}{{"", true}, {"vfat", true}, {"ext4", false}} {
		v := provider.Volume{Dev: dm.Dev(st.Rdev), Name: "loop", FSType: tt.fstype}
		if tt.fstype != "" {
			v.MountPoint = "/srv/lun"
		}
		if c, err := p.Claim(v); err != nil || c.Name != "lun" || c.Unheld != tt.unheld {
			t.Errorf("%q: got %+v, %v", tt.fstype, c, err)
		}
	}
	labtest.Run(t, "sh", "-c", "printf before | dd of="+loop+" oflag=sync conv=notrunc status=none")
	part, err := p.Prepare(t.Context(), provider.Set{ID: "20261120T000000_0001", Members: 1}, []provider.Volume{{Dev: dm.Dev(st.Rdev), Name: "lun", Size: 8 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	if o := part.Origins(); len(o) > 0 {
		t.Errorf("it wants %v suspended", o)
	}
	if err := part.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	part.Watch([]provider.Hold{})
	if err := errors.Join(part.PreCommit(), part.Commit(), part.PostCommit(), part.Unlock(), part.Verify()); err != nil {
		t.Fatal(errors.Join(err, part.Abort(t.Context())))
	}
	labtest.Run(t, "sh", "-c", "printf after | dd of="+loop+" oflag=sync conv=notrunc status=none")
	snaps, err := part.Finalize(t.Context(), provider.Final{Consistency: "crash", Created: 1})
	if err != nil {
		t.Fatal(err)
	}
	device, err := p.Expose(t.Context(), snaps[0])
	if err != nil {
		t.Fatal(err)
	}
	if text := labtest.Run(t, "head", "-c", "6", device); text != "before" {
		t.Errorf("the image begins with %q", text)
	}
	if err := p.Delete(t.Context(), snaps); err != nil {
		t.Error(err)
	}
}
