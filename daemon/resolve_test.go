package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
)

// tableHost is a host of which only the mount table and the devices matter; paths are those of a directory.
type tableHost struct {
	Host
	dir     string
	mounts  []fsfreeze.Mount
	devices map[string]uint64 // by path
	stacks  map[uint64]fsfreeze.Device
}

func (h tableHost) Mounts() ([]fsfreeze.Mount, error) { return h.mounts, nil }

func (h tableHost) BlockDevice(path string) (uint64, bool, error) {
	dev, ok := h.devices[path]
	return dev, ok, nil
}

func (h tableHost) Stack(dev uint64) (fsfreeze.Device, error) {
	d, ok := h.stacks[dev]
	if !ok {
		return d, unix.ENOENT
	}
	return d, nil
}

func (tableHost) Used(string) (uint64, error) { return 3 << 20, nil }

// table makes a host: a root, a volume of provider alpha mounted twice, an XFS with its log elsewhere, an image on a loop
// device, a tmpfs, a vfat, a volume that two providers take, and one that none does.
func table(t *testing.T) tableHost {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h := tableHost{dir: dir, devices: map[string]uint64{}, stacks: map[uint64]fsfreeze.Device{}}
	mount := func(dev uint64, point, root, fstype string, options ...string) {
		h.mounts = append(h.mounts, fsfreeze.Mount{ID: len(h.mounts) + 1, Dev: dev, Point: filepath.Join(dir, point), Root: root, FSType: fstype, Options: options})
		if err := os.MkdirAll(filepath.Join(dir, point), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	device := func(minor uint32, name string) uint64 {
		dev := unix.Mkdev(253, minor)
		h.stacks[dev] = fsfreeze.Device{Dev: dev, Kind: fsfreeze.Mapped, Name: fmt.Sprintf("dm-%d", minor), DM: name, Size: 4096}
		h.devices[filepath.Join(dir, "dev", name)] = dev
		if err := os.MkdirAll(filepath.Join(dir, "dev"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "dev", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return dev
	}
	mount(1, "/", "/", "overlay")
	a := device(1, "vg-a")
	mount(a, "bind", "/inside", "ext4")
	mount(a, "srv", "/", "ext4")
	mount(device(2, "vg-xfs"), "xfs", "/", "xfs", "rw", "logdev=/dev/sdb")
	img := device(3, "vg-img")
	d := h.stacks[img]
	d.Below = []fsfreeze.Device{{Name: "loop0", Backing: filepath.Join(dir, "srv/inner/disk.img")}}
	h.stacks[img] = d
	mount(img, "img", "/", "ext4")
	mount(2, "tmp", "/", "tmpfs")
	mount(device(4, "vg-esp"), "esp", "/", "vfat")
	mount(device(5, "vg-both"), "both", "/", "ext4")
	device(6, "vg-raw")
	device(7, "crypt")
	mount(device(8, "vg-over"), "over", "/", "ext4")
	mount(device(9, "vg-top"), "over", "/", "ext4")
	if err := os.Symlink(filepath.Join(dir, "srv"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "srv/plain"), 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestResolve(t *testing.T) {
	h := table(t)
	alpha, beta := providertest.NewStorage(), providertest.NewStorage()
	for minor, name := range map[uint32]string{1: "vg/a", 2: "vg/xfs", 3: "vg/img", 4: "vg/esp", 5: "vg/both", 6: "vg/raw", 8: "vg/over", 9: "vg/top"} {
		alpha.Add(provider.Volume{Dev: dm.MkDev(253, minor), Name: name})
	}
	beta.Add(provider.Volume{Dev: dm.MkDev(253, 5), Name: "second/both"})
	d := New(Options{Config: &config.Config{}, Host: h, Providers: []provider.Provider{providertest.NewFake("alpha", alpha), providertest.NewFake("beta", beta)}})

	tests := []struct {
		name     string
		volumes  string // below the directory; "=" for as it is
		provider string
		members  string // vg/lv at its mount point, * if it is frozen, + with its provider if it is not alpha
		levels   string
		err      string
	}{
		{"a mount point", "srv", "", "vg/a@srv*", "srv", ""},
		{"its device", "dev/vg-a", "", "vg/a@srv*", "srv", ""},
		{"a link to it", "link", "", "vg/a@srv*", "srv", ""},
		{"a bind mount of it", "bind", "", "vg/a@srv*", "srv", ""},
		{"all of these", "bind srv link dev/vg-a srv", "", "vg/a@srv*", "srv", ""},
		{"a loop device's filesystem goes before the one with its file", "srv img both", "", "vg/a@srv* vg/img@img* vg/both@both*", "img both|srv", ""},
		{"a volume that is not mounted", "dev/vg-raw srv", "", "vg/raw@ vg/a@srv*", "srv", ""},
		{"a filesystem that cannot be frozen", "esp", "", "vg/esp@esp", "", ""},
		{"the first provider that takes it", "both", "", "vg/both@both*", "both", ""},
		{"the provider that was asked for", "both", "beta", "second/both@both*+beta", "both", ""},
		{"the upper of two mounts at one place", "over", "", "vg/top@over*", "over", ""},
		{"no such provider", "both", "gamma", "", "", `there is no provider "gamma"`},
		{"a provider that does not take it", "srv", "beta", "", "", "no provider takes it (alpha: another provider was asked for; beta: not a volume of this storage)"},
		{"no provider takes it", "dev/crypt", "", "", "", "no provider takes it (alpha: not a volume of this storage; beta: not a volume of this storage)"},
		{"no mount point", "srv/plain", "", "", "", "neither a mount point nor a block device; it lies on DIR/srv"},
		{"no such path", "gone", "", "", "", "no such file or directory"},
		{"no absolute path", "=srv", "", "", "", "cannot take srv: not an absolute path"},
		{"no device below", "tmp", "", "", "", "tmpfs has no block device of its own"},
		{"a part on another device", "xfs", "", "", "", "a part on another device (logdev=/dev/sdb)"},
		{"every mistake is told", "gone tmp srv", "", "", "", "tmpfs has no block device"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e effective
			e.Provider = tt.provider
			for _, v := range strings.Fields(tt.volumes) {
				if bare, ok := strings.CutPrefix(v, "="); ok {
					e.Volumes = append(e.Volumes, bare)
				} else {
					e.Volumes = append(e.Volumes, filepath.Join(h.dir, v))
				}
			}
			p, err := d.resolve(e)
			if tt.err != "" {
				if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), h.dir, "DIR"), tt.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			name := func(point string) string { return strings.TrimPrefix(strings.TrimPrefix(point, h.dir), "/") }
			var members []string
			for _, m := range p.members {
				s := m.vol.Name + "@" + name(m.vol.MountPoint)
				if m.freeze {
					s += "*"
				} else if m.unfrozen == "" {
					t.Errorf("%s is not frozen, and nobody knows why", s)
				}
				if m.provider.Name() != "alpha" {
					s += "+" + m.provider.Name()
				}
				members = append(members, s)
			}
			if got := strings.Join(members, " "); got != tt.members {
				t.Errorf("members: got %s, want %s", got, tt.members)
			}
			if got := levelsOf(p, name); got != tt.levels {
				t.Errorf("levels: got %s, want %s", got, tt.levels)
			}
		})
	}
}

// levelsOf writes the filesystems that a plan freezes, level by level, by the names of their mount points.
func levelsOf(p plan, name func(point string) string) string {
	var levels []string
	for _, l := range p.levels {
		var points []string
		for _, f := range l {
			points = append(points, name(f.Point()))
		}
		levels = append(levels, strings.Join(points, " "))
	}
	return strings.Join(levels, "|")
}

func TestPolicy(t *testing.T) {
	c := &config.Config{
		Policies: map[string]config.Policy{"p": {
			Name: "p", Volumes: []string{"/srv"}, Writers: []string{"db"}, Provider: "alpha", Consistency: config.ConsistencyApplication,
			OnFailure: config.OnFailureDegrade, Retry: config.Retry{Count: 2, Wait: 7}, Labels: map[string]string{"a": "1", "b": "2"},
		}, "broken": {Name: "broken", Volumes: []string{"/srv"}, Writers: []string{"gone"}}},
		Writers: map[string]config.Writer{"db": {Name: "db", Required: true, OnFailure: config.OnFailureAbort}},
	}
	d := New(Options{Config: c})
	tests := []struct {
		name    string
		request api.Request
		check   func(e effective, r api.Request) bool
		err     string
	}{
		{"a policy", api.Request{Policy: "p"}, func(e effective, r api.Request) bool {
			return r.Retry == 2 && r.RetryWait == 7 && e.Provider == "alpha" && e.Consistency == "application" &&
				len(e.writers) == 1 && e.writers[0].OnFailure == config.OnFailureDegrade && e.Labels["b"] == "2"
		}, ""},
		{"what the request says goes before the policy", api.Request{Policy: "p", Retry: 5, Provider: "beta", Consistency: api.Crash, Labels: map[string]string{"b": "3"}}, func(e effective, r api.Request) bool {
			return r.Retry == 5 && r.RetryWait == 0 && e.Provider == "beta" && e.Consistency == "crash" && e.Labels["a"] == "1" && e.Labels["b"] == "3"
		}, ""},
		{"volumes", api.Request{Volumes: []string{"/srv"}}, func(e effective, _ api.Request) bool {
			return e.Consistency == config.ConsistencyFilesystem && e.OnFailure == config.OnFailureAbort && slices.Equal(e.Volumes, []string{"/srv"})
		}, ""},
		{"volumes and writers", api.Request{Volumes: []string{"/srv"}, Writers: []string{"db"}}, func(e effective, _ api.Request) bool {
			return e.Consistency == config.ConsistencyApplication && len(e.writers) == 1 && e.writers[0].OnFailure == config.OnFailureAbort
		}, ""},
		{"nothing", api.Request{}, nil, "a set of nothing"},
		{"both", api.Request{Policy: "p", Volumes: []string{"/srv"}}, nil, "a policy and volumes"},
		{"no such policy", api.Request{Policy: "q"}, nil, `policy "q"`},
		{"no such writer", api.Request{Volumes: []string{"/srv"}, Writers: []string{"gone"}}, nil, `writer "gone"`},
		{"a policy with no such writer", api.Request{Policy: "broken"}, nil, `writer "gone"`},
		{"no such consistency", api.Request{Policy: "p", Consistency: "total"}, nil, `unknown consistency "total"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.request
			e, err := d.policy(&r)
			switch {
			case tt.err == "" && (err != nil || !tt.check(e, r)):
				t.Errorf("got %+v, %+v, %v", e, r, err)
			case tt.err != "" && (api.Of(err) != api.Invalid || !strings.Contains(fmt.Sprint(err), tt.err)):
				t.Errorf("got %v", err)
			}
		})
	}
	if c.Policies["p"].Labels["b"] != "2" {
		t.Error("a request changed the configuration")
	}
}

// A policy's wish for copy-on-write areas becomes bytes: of the filesystem's use, or of a raw volume's size.
func TestSizes(t *testing.T) {
	d := New(Options{Config: &config.Config{}, Host: tableHost{}})
	fs := &fsfreeze.Filesystem{Mounts: []fsfreeze.Mount{{Point: "/srv"}}}
	for _, c := range []struct {
		fs         *fsfreeze.Filesystem
		cow        config.COW
		used, area uint64
	}{
		{fs, config.COW{}, 3 << 20, 0},
		{fs, config.COW{Percent: 10}, 3 << 20, 1 << 20},
		{fs, config.COW{UsedPercent: 200}, 3 << 20, 6 << 20},
		{nil, config.COW{UsedPercent: 200}, 10 << 20, 20 << 20},
		{nil, config.COW{Size: 5 << 20}, 10 << 20, 5 << 20},
	} {
		m := member{fs: c.fs, vol: provider.Volume{Size: 10 << 20}}
		if err := d.sizes(&m, c.cow); err != nil || m.vol.Used != c.used || m.vol.COW != c.area {
			t.Errorf("%v: used %d, COW %d, %v", c.cow, m.vol.Used, m.vol.COW, err)
		}
	}
}
