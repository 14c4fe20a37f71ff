package daemon

import (
	"maps"
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
	"github.com/fermata-project/fermata/dm/provider/clone"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/hooks"
)

// claiming is a provider whose claims say more.
type claiming struct {
	provider.Provider
	unheld, writes bool
}

func (c claiming) Claim(v provider.Volume) (provider.Claim, error) {
	claim, err := c.Provider.Claim(v)
	claim.Unheld, claim.Writes = c.unheld, c.writes
	return claim, err
}

// mixedTable is the host of table with a btrfs of two subvolumes, one of two devices, a filesystem in a file on srv, a
// volume group on a loop device on srv, and a volume group on a logical volume.
func mixedTable(t *testing.T) (tableHost, *Daemon) {
	h := table(t)
	device := func(minor uint32, name string, below ...fsfreeze.Device) {
		dev := unix.Mkdev(253, minor)
		h.stacks[dev] = fsfreeze.Device{Dev: dev, DM: name, Below: below}
		path := filepath.Join(h.dir, "dev", name)
		h.devices[path] = dev
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mount := func(m fsfreeze.Mount, point string) {
		m.ID, m.Point = len(h.mounts)+1, filepath.Join(h.dir, point)
		h.mounts = append(h.mounts, m)
		if err := os.MkdirAll(m.Point, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	loop := fsfreeze.Device{Dev: unix.Mkdev(7, 0), Name: "loop0", Backing: filepath.Join(h.dir, "srv/disk")}
	device(20, "vg-btr")
	mount(fsfreeze.Mount{Dev: 60, FSType: "btrfs", Root: "/@home", Options: []string{"rw", "subvolid=257"}, Devices: []uint64{unix.Mkdev(253, 20)}}, "home")
	mount(fsfreeze.Mount{Dev: 60, FSType: "btrfs", Root: "/@", Options: []string{"rw", "subvolid=256"}, Devices: []uint64{unix.Mkdev(253, 20)}}, "top")
	mount(fsfreeze.Mount{Dev: 61, FSType: "btrfs", Root: "/", Devices: []uint64{8 << 8, 9 << 8}}, "two")
	h.stacks[loop.Dev] = loop
	mount(fsfreeze.Mount{Dev: loop.Dev, FSType: "ext4", Root: "/"}, "file")
	device(21, "inner-lv", loop)
	mount(fsfreeze.Mount{Dev: unix.Mkdev(253, 21), FSType: "ext4", Root: "/"}, "inner")
	device(22, "nested-lv", h.stacks[unix.Mkdev(253, 6)])
	mount(fsfreeze.Mount{Dev: unix.Mkdev(253, 22), FSType: "ext4", Root: "/"}, "nested")
	device(23, "nested-raw", h.stacks[unix.Mkdev(253, 6)])
	disk := fsfreeze.Device{Dev: unix.Mkdev(8, 0), Name: "sda"}
	file := func(minor uint32, path string) fsfreeze.Device {
		return fsfreeze.Device{Dev: unix.Mkdev(7, minor), Name: "loop", Backing: filepath.Join(h.dir, path)}
	}
	for minor, m := range map[uint32]struct {
		point string
		below []fsfreeze.Device
	}{
		30: {"md", []fsfreeze.Device{file(1, "srv/half"), disk}},                         // a file and a real disk
		31: {"pair", []fsfreeze.Device{file(2, "srv/half"), file(3, "both/half")}},       // files of two
		32: {"twice", []fsfreeze.Device{file(4, "srv/half"), file(5, "srv/other half")}}, // two files of one
		33: {"sub", []fsfreeze.Device{file(6, "home/disk")}},                             // a file on a subvolume
		34: {"deep", []fsfreeze.Device{file(7, "file/disk")}},                            // a file in a file
		35: {"lost", []fsfreeze.Device{file(8, "srv/disk (deleted)")}},                   // a file that is gone
		36: {"vfat", []fsfreeze.Device{file(9, "esp/disk")}},                             // on what cannot be frozen
		37: {"stacked", []fsfreeze.Device{{Name: "md1", Below: []fsfreeze.Device{file(10, "srv/a"), {Name: "part", Below: []fsfreeze.Device{file(11, "srv/b")}}}}}},
	} {
		device(minor, "x-"+m.point, m.below...)
		mount(fsfreeze.Mount{Dev: unix.Mkdev(253, minor), FSType: "ext4", Root: "/"}, m.point)
	}

	alpha, beta, gamma := providertest.NewStorage(), providertest.NewStorage(), providertest.NewStorage()
	for minor, name := range map[uint32]string{1: "vg/a", 4: "vg/esp", 5: "vg/both", 6: "vg/raw", 20: "vg/btr", 21: "inner/lv", 22: "nested/lv", 23: "nested/raw"} {
		alpha.Add(provider.Volume{Dev: dm.MkDev(253, minor), Name: name})
		beta.Add(provider.Volume{Dev: dm.MkDev(253, minor), Name: name})
		gamma.Add(provider.Volume{Dev: dm.MkDev(253, minor), Name: name})
	}
	return h, New(Options{Config: &config.Config{}, Host: h, Providers: []provider.Provider{
		providertest.NewFake("alpha", alpha),
		claiming{Provider: providertest.NewFake("writes", beta), writes: true},
		claiming{Provider: providertest.NewFake("unheld", gamma), unheld: true},
	}})
}

func TestMixedSets(t *testing.T) {
	h, d := mixedTable(t)
	tests := []struct {
		name      string
		volumes   string
		providers string // VOLUME=NAME
		members   string // name at mount point, * frozen, =provider, <volume that it is inside of
		levels    string
		err       string
	}{
		{"each its own", "srv both", "both=writes", "vg/a@srv*=alpha vg/both@both*=writes", "srv both", ""},
		{"named by another of its paths", "srv both", "dev/vg-both=writes", "vg/a@srv*=alpha vg/both@both*=writes", "srv both", ""},
		{"for a volume that is not in the set", "srv", "both=writes", "", "", "cannot choose provider writes for DIR/both: it is no volume of the set"},
		{"of no such name", "srv", "srv=delta", "", "", `there is no provider "delta"`},
		{"one that is not held", "srv both", "both=unheld", "vg/a@srv*=alpha vg/both@both=unheld", "srv", ""},
		{"two that are not held", "srv both", "both=unheld srv=unheld", "", "", "cannot take DIR/srv and DIR/both in one set: provider unheld and provider unheld each capture at an instant of their own"},
		{"two subvolumes are one volume", "home top", "", "vg/btr@home*=alpha", "home", ""},
		{"two subvolumes of which one would be captured", "home top", "home=unheld", "", "", "provider unheld would not take DIR/top, which is on the same device"},
		{"by the mount that was asked for", "top", "", "vg/btr@top*=alpha", "top", ""},
		{"two devices", "two", "", "", "", "cannot take DIR/two: it is spread over 2 devices"},
		{"a file of another member", "srv file", "", "vg/a@srv*=alpha loop0@file*<DIR/srv", "file|srv", ""},
		{"a file of none", "file", "", "", "", "not a volume of this storage); it lies in DIR/srv/disk, on no volume of the set: take that volume too"},
		{"a file in a file of another member, in any order", "deep file srv", "", "x-deep@deep*<DIR/file loop0@file*<DIR/srv vg/a@srv*=alpha", "deep|file|srv", ""},
		{"a file in a file of none", "deep file", "", "", "", "it lies in DIR/file/disk, and DIR/file is not captured frozen with its whole device"},
		{"on a file and on a disk", "srv md", "", "", "", "a part of it lies in DIR/srv, another on sda"},
		{"on files of two members", "srv both pair", "", "vg/a@srv*=alpha vg/both@both*=alpha x-pair@pair*<DIR/srv, DIR/both", "pair|srv both", ""},
		{"on files of two, of which one is a member", "srv pair", "", "", "", "it lies in DIR/both/half, on no volume of the set"},
		{"on two files of one member", "srv twice", "", "vg/a@srv*=alpha x-twice@twice*<DIR/srv", "twice|srv", ""},
		{"some layers above its files", "srv stacked", "", "vg/a@srv*=alpha x-stacked@stacked*<DIR/srv", "stacked|srv", ""},
		{"on a subvolume of a member's device", "top sub", "", "vg/btr@top*=alpha x-sub@sub*<DIR/top", "sub|top", ""},
		{"on a subvolume, and another one is captured", "top sub", "top=unheld", "", "", "it lies in DIR/home/disk, and DIR/top is not captured frozen with its whole device"},
		{"on a file that was deleted", "srv lost", "", "", "", "it lies in DIR/srv/disk (deleted), on no volume of the set"},
		{"on a filesystem that cannot be frozen", "esp vfat", "", "", "", "it lies in DIR/esp/disk, and DIR/esp is not captured frozen with its whole device"},
		{"volume group on a file of another member", "srv inner", "", "vg/a@srv*=alpha inner/lv@inner*=alpha", "inner|srv", ""},
		{"the same, captured by writing", "srv inner", "inner=writes", "", "", "cannot take DIR/inner and DIR/srv in one set: DIR/inner is captured by writing to its pool, and it rests on DIR/srv"},
		{"the same, not held", "srv inner", "inner=unheld", "", "", "DIR/inner is captured while its filesystem goes on writing, and it rests on DIR/srv"},
		{"captured by writing, beside", "both inner", "inner=writes both=writes", "vg/both@both*=writes inner/lv@inner*=writes", "both inner", ""},
		{"volume group on another member", "dev/vg-raw nested", "", "vg/raw@=alpha nested/lv@nested*=alpha", "nested", ""},
		{"raw on another member", "dev/vg-raw dev/nested-raw", "", "", "", "is not frozen, so writes to it may be under way, and it rests on DIR/dev/vg-raw"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := effective{Policy: config.Policy{Providers: map[string]string{}}}
			for _, v := range strings.Fields(tt.volumes) {
				e.Volumes = append(e.Volumes, filepath.Join(h.dir, v))
			}
			for _, x := range strings.Fields(tt.providers) {
				v, name, _ := strings.Cut(x, "=")
				e.Providers[filepath.Join(h.dir, v)] = name
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
			for i, m := range p.members {
				s := m.vol.Name + "@" + name(m.vol.MountPoint)
				if m.freeze {
					s += "*"
				}
				told := p.snapshots()[i]
				if m.inside != "" {
					s += "<" + strings.ReplaceAll(m.inside, h.dir, "DIR")
				} else {
					s += "=" + m.provider.Name()
				}
				if told.Inside != m.inside || told.Frozen != m.freeze || len(told.Refused) < 2 {
					t.Errorf("the plan tells %+v", told)
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

// What rests on what does not depend on the order of the request, and the choice says why.
func TestChoiceIsTold(t *testing.T) {
	h, d := mixedTable(t)
	d.o.Providers = append(d.o.Providers, &clone.Provider{}) // it takes nothing, and is mentioned only if it was asked for
	if _, err := d.choose(member{}, "clone"); err == nil || !strings.Contains(err.Error(), "--method clone") {
		t.Errorf("clone, asked for: %v", err)
	}
	p, err := d.resolve(effective{Policy: config.Policy{Volumes: []string{filepath.Join(h.dir, "both")}}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"writes": "alpha (built-in) comes first", "unheld": "alpha (built-in) comes first"}
	if got := p.members[0].refused; !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if o := p.members[0].vol.Options; o != "" {
		t.Errorf("options of an ext4: %q", o)
	}
	if p, err = d.resolve(effective{Policy: config.Policy{Volumes: []string{filepath.Join(h.dir, "top")}}}); err != nil || p.members[0].vol.Options != "subvolid=256" {
		t.Errorf("options of a subvolume: %+v, %v", p.members, err)
	}
}

// A volume without filesystem costs consistency, unless a writer that held speaks for it.
func TestRawVolumeIsCovered(t *testing.T) {
	h, d := mixedTable(t)
	raw := filepath.Join(h.dir, "dev/vg-raw")
	e := effective{Policy: config.Policy{Volumes: []string{raw}}, writers: []config.Writer{{Name: "db", Components: []config.Component{{Paths: []string{raw}}}}}}
	p, err := d.resolve(e)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.members[0].covered; !slices.Equal(got, []string{"db"}) {
		t.Errorf("covered by %v", got)
	}
	for state, want := range map[hooks.State]api.Consistency{hooks.StateReleased: api.Application, hooks.StateInactive: api.Application, hooks.StateFailed: api.Crash} {
		if got, reasons := claim(p, e, map[string]hooks.State{"db": state}, nil); got != want {
			t.Errorf("writer %s: got %s, %v", state, got, reasons)
		}
	}
	e.writers = nil
	if p, err = d.resolve(e); err != nil {
		t.Fatal(err)
	}
	if got, reasons := claim(p, e, nil, nil); got != api.Crash || len(reasons) != 1 {
		t.Errorf("without a writer: got %s, %v", got, reasons)
	}
	// A provider that captures by itself gives a btrfs whole, another filesystem as after a power cut.
	for volume, want := range map[string]api.Consistency{"both": api.Crash, "top": api.Filesystem} {
		path := filepath.Join(h.dir, volume)
		e.Volumes, e.Providers = []string{path}, map[string]string{path: "unheld"}
		if p, err = d.resolve(e); err != nil {
			t.Fatal(err)
		}
		if got, reasons := claim(p, e, nil, nil); got != want || (len(reasons) == 0) != (want == api.Filesystem) {
			t.Errorf("%s, which its provider captures by itself: got %s, %v", volume, got, reasons)
		}
	}
}
