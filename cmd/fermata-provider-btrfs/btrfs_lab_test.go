//go:build lab

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

const program = "fermata-provider-btrfs"

// TestMain: under the plug-in's name this program is the plug-in.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == program {
		main()
	}
	os.Exit(m.Run())
}

// stage is a btrfs with a subvolume that is mounted, and another nested in that.
type stage struct {
	point string
	disk  string
	vol   provider.Volume
	path  string // of the plug-in
}

func newStage(t *testing.T) *stage {
	labtest.CheckClean(t)
	s := &stage{disk: labtest.Disks(t)[0], point: "/srv/btrfs"}
	top := t.TempDir()
	labtest.Run(t, "mkfs.btrfs", "-q", "-f", s.disk)
	labtest.Run(t, "mount", s.disk, top)
	labtest.Run(t, "btrfs", "subvolume", "create", filepath.Join(top, "@home"))
	labtest.Run(t, "umount", top)
	if err := os.MkdirAll(s.point, 0o755); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "mount", "-o", "subvol=@home", s.disk, s.point)
	t.Cleanup(func() {
		labtest.Run(t, "umount", s.point)
		os.Remove(s.point)
	})
	labtest.Run(t, "btrfs", "subvolume", "create", filepath.Join(s.point, "nested"))
	var st unix.Stat_t
	if err := unix.Stat(s.disk, &st); err != nil {
		t.Fatal(err)
	}
	s.vol = provider.Volume{Dev: dm.Dev(st.Rdev), Name: "ubd", Size: 2 << 30, MountPoint: s.point, FSType: "btrfs"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.path = filepath.Join(t.TempDir(), program)
	if err := os.Symlink(self, s.path); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) start(t *testing.T) provider.Provider {
	t.Helper()
	p, err := plugin.Start(context.Background(), plugin.Spec{Name: "btrfs", Command: []string{s.path}, Limits: plugin.DefaultLimits}, plugin.Options{})
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

func (s *stage) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.point, name), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

func (s *stage) arm(t *testing.T, p provider.Provider, id string) provider.Enlistment {
	t.Helper()
	c, err := p.Claim(s.vol)
	if err != nil || !c.Unheld || !strings.HasSuffix(c.Name, ":/@home") {
		t.Fatalf("claim: %+v, %v", c, err)
	}
	v := s.vol
	v.Name = c.Name
	if err := p.Admit(t.Context(), []provider.Volume{v}); err != nil {
		t.Fatal(err)
	}
	part, err := p.Prepare(t.Context(), provider.Set{ID: id, Policy: "nightly", Members: 1}, []provider.Volume{v})
	if err != nil {
		t.Fatal(err)
	}
	if err := part.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := part.Origins(); len(d) > 0 {
		t.Errorf("it wants %v suspended", d)
	}
	part.Watch([]provider.Hold{})
	return part
}

func (s *stage) finish(t *testing.T, part provider.Enlistment) provider.Snapshot {
	t.Helper()
	if err := errors.Join(part.PreCommit(), part.Commit(), part.PostCommit(), part.Unlock(), part.Verify()); err != nil {
		t.Fatal(errors.Join(err, part.Abort(t.Context())))
	}
	snaps, err := part.Finalize(t.Context(), provider.Final{Consistency: "filesystem", Created: 42})
	if err != nil {
		t.Fatal(errors.Join(err, part.Abort(t.Context())))
	}
	return snaps[0]
}

// empty fails the test unless nothing of ours is on the filesystem.
func (s *stage) empty(t *testing.T) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(s.point, ours)); !os.IsNotExist(err) {
		t.Errorf("%s/%s: %v", s.point, ours, err)
	}
	if out := labtest.Run(t, "btrfs", "subvolume", "list", s.point); strings.Contains(out, ours) {
		t.Errorf("left: %s", out)
	}
}

func TestSnapshot(t *testing.T) {
	s := newStage(t)
	p := s.start(t)
	s.write(t, "acknowledged", "before") // and not synced: btrfs flushes what a snapshot has to hold
	s.write(t, "nested/file", "x")
	if err := os.Mkdir(filepath.Join(s.point, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d/deep", "nested/inner"} {
		labtest.Run(t, "btrfs", "subvolume", "create", filepath.Join(s.point, name))
	}
	part := s.arm(t, p, "20261120T000000_0001")
	s.write(t, "armed", "before")
	if l, err := p.Snapshots(t.Context()); err != nil || len(l) != 1 || !l[0].Armed || l[0].Set.ID != "20261120T000000_0001" {
		t.Errorf("armed: %+v, %v", l, err)
	}
	if err := errors.Join(part.PreCommit(), part.Commit()); err != nil {
		t.Fatal(err)
	}
	s.write(t, "acknowledged", "after")
	s.write(t, "late", "after")
	if err := errors.Join(part.PostCommit(), part.Unlock(), part.Verify()); err != nil {
		t.Fatal(err)
	}
	snaps, err := part.Finalize(t.Context(), provider.Final{Consistency: "filesystem", Created: 42})
	if err != nil {
		t.Fatal(err)
	}
	want := snaps[0]
	if !slices.Equal(want.Omits, []string{"d/deep", "nested"}) { // the one in nested goes with it
		t.Errorf("it omits %q", want.Omits)
	}
	if want.Armed || want.Set != (provider.Set{ID: "20261120T000000_0001", Policy: "nightly", Members: 1}) || want.Created != 42 ||
		want.MountPoint != s.point || want.FSType != "btrfs" || want.Provider != "btrfs" || !strings.HasPrefix(want.Options, "subvolid=") {
		t.Errorf("got %+v", want)
	}
	listed, err := s.start(t).Snapshots(t.Context()) // as a daemon that starts later
	if err != nil || len(listed) != 1 || !reflect.DeepEqual(listed[0], want) {
		t.Errorf("listed %+v, %v, want %+v", listed, err, want)
	}

	device, err := p.Expose(t.Context(), want)
	if err != nil || device != s.disk {
		t.Fatalf("exposed as %s, %v", device, err)
	}
	dir := t.TempDir()
	if err := unix.Mount(device, dir, "btrfs", unix.MS_RDONLY, want.Options); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"acknowledged": "before", "armed": "before"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != text {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"late", "nested/file"} { // nested subvolumes are not captured
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "w"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to the snapshot: %v", err)
	}
	// The snapshot holds a copy of the record from when it was armed: it must not be taken for a half-made set.
	if l, err := p.Snapshots(t.Context()); err != nil || len(l) != 1 || !reflect.DeepEqual(l[0], want) {
		t.Errorf("listed while mounted: %+v, %v", l, err)
	}
	labtest.Run(t, "umount", dir)

	labtest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(s.point, "d/deep"))
	part = s.arm(t, p, "20261120T000000_0002")
	labtest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(s.point, "nested/inner"), filepath.Join(s.point, "nested"))
	d, err := os.Open(filepath.Join(s.point, "d"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i := range 300 { // more than the kernel tells at once
		var args volArgs
		copy(args.name[:], fmt.Sprintf("n%03d", i))
		const create = 0x5000940e // BTRFS_IOC_SUBVOL_CREATE, _IOW(0x94, 14, struct btrfs_ioctl_vol_args)
		if err := ioctl(int(d.Fd()), create, unsafe.Pointer(&args)); err != nil {
			t.Fatal(err)
		}
	}
	second := s.finish(t, part)
	if n := len(second.Omits); n != 101 || second.Omits[0] != "d/n000" || second.Omits[100] != "and 201 more" { // nested was there when it was armed
		t.Errorf("it omits %q", second.Omits)
	}
	if err := p.Mark(t.Context(), []provider.Snapshot{want}); err != nil {
		t.Error(err)
	}
	l, err := p.Snapshots(t.Context())
	i := slices.IndexFunc(l, func(x provider.Snapshot) bool { return x.Set == want.Set })
	if err != nil || len(l) != 2 || i < 0 || !l[i].Armed || !reflect.DeepEqual(l[1-i], second) {
		t.Errorf("marked: %+v, %v", l, err)
	}
	if err := p.Delete(t.Context(), []provider.Snapshot{want}); err != nil {
		t.Error(err)
	}
	if l, err := p.Snapshots(t.Context()); err != nil || len(l) != 1 || !reflect.DeepEqual(l[0], second) {
		t.Errorf("after deletion: %+v, %v", l, err)
	}
	labtest.Run(t, "btrfs", "subvolume", "delete", filepath.Join(s.point, ours, second.Set.ID))
	if l, err := p.Snapshots(t.Context()); err != nil || len(l) != 1 || l[0].Invalid == "" {
		t.Errorf("after somebody removed the subvolume: %+v, %v", l, err)
	}
	if err := p.Delete(t.Context(), []provider.Snapshot{second}); err != nil {
		t.Error(err)
	}
	s.empty(t)
}

// After whatever stage, an aborted set leaves nothing; so does one whose daemon died, after the next one's Delete.
func TestAbort(t *testing.T) {
	s := newStage(t)
	stages := []string{"Lock", "PreCommit", "Commit", "PostCommit", "Finalize"}
	for i, last := range stages {
		for _, death := range []bool{false, true} {
			p := s.start(t)
			part := s.arm(t, p, "20261120T000000_0001")
			steps := []func() error{
				func() error { return nil }, part.PreCommit, part.Commit, part.PostCommit,
				func() error { _, err := part.Finalize(t.Context(), provider.Final{}); return err },
			}
			for _, step := range steps[:i+1] {
				if err := step(); err != nil {
					t.Fatalf("%s: %v", last, err)
				}
			}
			if !death {
				if err := errors.Join(part.PostCommit(), part.Unlock(), part.Abort(t.Context()), part.Abort(t.Context())); err != nil {
					t.Errorf("%s: %v", last, err)
				}
			} else {
				next := s.start(t)
				l, err := next.Snapshots(t.Context())
				if err != nil || len(l) != 1 || l[0].Armed != (last != "Finalize") {
					t.Errorf("after %s: %+v, %v", last, l, err)
				}
				if err := next.Delete(t.Context(), l); err != nil {
					t.Error(err)
				}
				if err := errors.Join(part.PostCommit(), part.Unlock(), part.Abort(t.Context())); err != nil { // its process goes
					t.Error(err)
				}
			}
			s.empty(t)
		}
	}
}

// What the plug-in does not take, and what it distrusts.
func TestRefusals(t *testing.T) {
	s := newStage(t)
	p := s.start(t)
	bind, other := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(s.point, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "mount", "--bind", filepath.Join(s.point, "dir"), bind)
	t.Cleanup(func() { labtest.Run(t, "umount", bind) })
	for _, c := range []struct {
		vol  provider.Volume
		want string
	}{
		{provider.Volume{Name: "x", FSType: "ext4", MountPoint: "/"}, "not a mounted btrfs"},
		{provider.Volume{Name: "x"}, "not a mounted btrfs"},
		{provider.Volume{Name: "x", FSType: "btrfs", MountPoint: other}, "nothing is mounted"},
		{provider.Volume{Name: "x", FSType: "btrfs", MountPoint: bind}, "a directory of a subvolume"},
		{provider.Volume{Name: "x", FSType: "btrfs", MountPoint: "/\xff"}, "not UTF-8"},
	} {
		if _, err := p.Claim(c.vol); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.vol, err, c.want)
		}
	}
	theirs := filepath.Join(s.point, ours)
	if err := errors.Join(os.Mkdir(theirs, 0o755), os.Chown(theirs, 1234, 0)); err != nil {
		t.Fatal(err)
	}
	part, err := p.Prepare(t.Context(), provider.Set{ID: "x", Members: 1}, []provider.Volume{s.vol})
	if err == nil || !strings.Contains(err.Error(), "not root's alone") {
		t.Errorf("somebody else's directory: %v", err)
	}
	if err := part.Abort(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.Remove(theirs); err != nil {
		t.Fatal(err)
	}
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := fsfreeze.At(mounts, s.point); !ok || m.Root != "/@home" {
		t.Errorf("mounted: %+v", m)
	}
	labtest.Run(t, "mount", "-o", "remount,ro", s.point)
	if _, err := p.Claim(s.vol); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a read-only mount: %v", err)
	}
}
