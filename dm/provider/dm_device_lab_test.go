//go:build lab

package provider_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/lab/labtest"
)

// area is the table of a snapshot's copy-on-write area, in MiB: "1+2" is two from the first on.
func (b *dmBench) area(t *testing.T, s provider.Snapshot) string {
	t.Helper()
	table, _, err := b.control.Table(dm.ByName("fermata@" + s.Name + "-cow"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, target := range table {
		l, err := dm.ParseLinearTable(target.Params)
		if err != nil || l.Dest != b.volume(t, "storage").Dev {
			t.Fatalf("%+v: %v", target, err)
		}
		out = append(out, fmt.Sprintf("%v+%v", float64(l.Offset)/mebi, float64(target.Length)/mebi))
	}
	return strings.Join(out, " ")
}

// Areas take the first gap that is large enough, or several, and nothing is written outside them.
func TestDMDeviceExtents(t *testing.T) {
	b := newDMBenchOn(t, &onDevice{})
	b.options.Reserve = percent(0)
	o := b.raw(t, "one")
	p := b.dm()
	o.fill(t, '1', 16)
	labtest.Run(t, "sh", "-c", `tr '\0' x </dev/zero | dd of=/dev/mapper/storage bs=1M seek=1 count=64 iflag=fullblock oflag=direct status=none`)
	outside := func(from, n int) string {
		return labtest.Run(t, "sh", "-c", fmt.Sprintf("dd if=/dev/mapper/storage iflag=direct bs=1M skip=%d count=%d status=none | sha256sum", from, n))
	}
	ends := func() [3]string { return [3]string{outside(0, 1), outside(15, 50), outside(598, 2)} }
	before := ends()
	take := func(size uint64) provider.Snapshot {
		t.Helper()
		v := o.v
		v.COW = size
		return b.take(t, p, v)[0]
	}
	is := func(s provider.Snapshot, want string) {
		t.Helper()
		if got := b.area(t, s); got != want {
			t.Errorf("area %s, want %s", got, want)
		}
	}
	drop := func(s ...provider.Snapshot) {
		t.Helper()
		if err := p.Delete(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	a, c, d := take(2<<20), take(3<<20), take(2<<20+4096)
	is(a, "1+2")
	is(c, "3+3")
	is(d, "6+2.00390625")
	drop(a)
	e := take(3 << 20) // two are not enough
	is(e, "9+3")
	f := take(1 << 20)
	is(f, "1+1")
	// What somebody who died has loaded and not made live is given back.
	labtest.Run(t, "dmsetup", "load", "fermata@"+f.Name+"-cow", "--table", fmt.Sprintf("0 %d linear /dev/mapper/storage %d", 590*mebi, 2*mebi))
	if err := p.Admit(t.Context(), []provider.Volume{o.v}); !errors.Is(err, provider.ErrNoRoom) {
		t.Errorf("Admit beside a loaded table: %v", err)
	}
	if err := p.Resize(t.Context(), f, 4<<20); err != nil { // one from the gap that is left is not enough: behind the others
		t.Error(err)
	}
	is(f, "1+1 12+3")
	if err := p.Resize(t.Context(), f, 4<<20); err != nil {
		t.Error(err)
	}
	is(f, "1+1 12+3")
	o.fill(t, '2', 1)
	for _, s := range []provider.Snapshot{c, d, e, f} {
		device, err := p.Expose(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, device, '1', 16)
	}
	drop(c, d, e, f)
	b.clean(t)
	if ends() != before {
		t.Error("something was written outside the areas")
	}
	t.Run("in pieces, to the last", func(t *testing.T) {
		v := o.v
		v.Size = 700 << 20
		hold := take(2 << 20)
		var snaps []provider.Snapshot
		v.COW = 300 << 20
		if err := p.Admit(t.Context(), []provider.Volume{v, v}); !errors.Is(err, provider.ErrNoRoom) || !strings.Contains(err.Error(), "/dev/mapper/storage") {
			t.Errorf("600 MiB: %v", err)
		}
		v.COW = 298 << 20
		if err := p.Admit(t.Context(), []provider.Volume{v, v}); err != nil {
			t.Errorf("596 MiB: %v", err)
		}
		snaps = append(snaps, b.take(t, p, v)...)
		is(snaps[0], "3+298")
		drop(hold)
		v.COW = 300 << 20
		snaps = append(snaps, b.take(t, p, v)...)
		is(snaps[1], "1+2 301+298")
		v.COW = 1 << 20
		if err := p.Admit(t.Context(), []provider.Volume{v}); !errors.Is(err, provider.ErrNoRoom) {
			t.Errorf("full: %v", err)
		}
		if pools, err := p.Pools(); err != nil || len(pools) != 1 || pools[0].Size != 598<<20 || pools[0].Used != 598<<20 || pools[0].Mode != "rw" {
			t.Errorf("%+v, %v", pools, err)
		}
		drop(snaps...)
		b.clean(t)
	})
}

// A daemon that dies while it grows an area leaves one that can be grown, and deleted; its room is not lost.
func TestDMDeviceGrowDeath(t *testing.T) {
	b := newDMBenchOn(t, &onDevice{})
	o := b.raw(t, "one")
	o.v.COW = 2 << 20
	load := `dmsetup load fermata@$NAME-cow --table "0 4096 linear /dev/mapper/storage 2048
		4096 4096 linear /dev/mapper/storage 20480"`
	for name, c := range map[string]struct{ script, want string }{
		"loaded":          {load, "1+2 3+2"}, // not where it was: that was never live
		"live":            {load + " && dmsetup resume fermata@$NAME-cow", "1+2 10+2"},
		"before anything": {"true", "1+2 3+2"},
	} {
		for _, grow := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", grown again: ", grow), func(t *testing.T) {
				o.fill(t, '1', 16)
				snap := b.take(t, b.dm(), o.v)[0]
				labtest.Run(t, "sh", "-c", "NAME="+snap.Name+"; "+c.script)
				p := b.dm()
				if l := b.listed(t, p); len(l) != 1 || l[0].Invalid != "" {
					t.Errorf("listed %+v", l)
				}
				if grow {
					if err := p.Resize(t.Context(), snap, 4<<20); err != nil {
						t.Error(err)
					}
					if got := b.area(t, snap); got != c.want {
						t.Errorf("area %s, want %s", got, c.want)
					}
					o.fill(t, '2', 3)
					device, err := p.Expose(t.Context(), snap)
					if err != nil {
						t.Fatal(err)
					}
					holds(t, device, '1', 16)
				}
				if err := p.Delete(t.Context(), []provider.Snapshot{snap}); err != nil {
					t.Error(err)
				}
				if pools, err := p.Pools(); err != nil || pools[0].Used != 0 {
					t.Errorf("%+v, %v", pools, err)
				}
				b.clean(t)
			})
		}
	}
}

// A device that is somebody else's is refused, by what lies on it, who has it, and what it lies below.
func TestDMDeviceRefused(t *testing.T) {
	b := newDMBenchOn(t, &onDevice{})
	o := b.raw(t, "one")
	const storage = "/dev/mapper/storage"
	refused := func(t *testing.T, why string, vols ...provider.Volume) {
		t.Helper()
		if err := b.dm().Admit(t.Context(), append(vols, o.v)); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), b.options.Storage) {
			t.Errorf("Admit: %v, want %q", err, why)
		}
	}
	blank := func() {
		labtest.Run(t, "sh", "-c", "for at in 0 599; do dd if=/dev/zero of="+storage+" bs=1M seek=$at count=1 status=none conv=fsync; done")
	}
	for name, write := range map[string][]string{
		"ext4":              {"mkfs.ext4", "-q", storage},
		"XFS":               {"mkfs.xfs", "-q", storage},
		"swap":              {"mkswap", storage},
		"LVM":               {"pvcreate", "-qq", "-y", storage},
		"a partition table": {"sh", "-c", "echo , | sfdisk -q " + storage},
		// md's superblock of version 1.0 stands 8 KiB before the end.
		"RAID, at the end":    {"sh", "-c", `printf '\374\116\053\251' | dd of=` + storage + ` bs=1 seek=$((600*1024*1024-8192)) status=none conv=fsync`},
		"anything at the end": {"sh", "-c", "echo x | dd of=" + storage + " bs=1 seek=$((600*1024*1024-2)) status=none conv=fsync"},
	} {
		t.Run(name, func(t *testing.T) {
			labtest.Run(t, write...)
			refused(t, "not empty")
			blank()
			b.clean(t)
		})
	}
	t.Run("mounted", func(t *testing.T) {
		labtest.Run(t, "mkfs.ext4", "-q", storage)
		defer blank()
		dir := t.TempDir()
		labtest.Run(t, "mount", storage, dir)
		defer labtest.Run(t, "umount", dir)
		refused(t, "in use")
	})
	t.Run("under somebody else's device", func(t *testing.T) {
		b.device(t, "other", fmt.Sprintf("0 %d linear %s %d", 8*mebi, storage, 8*mebi))
		refused(t, "lies on it")
		refused(t, "lies on it", b.volume(t, "other"))
	})
	t.Run("under a volume of the set, through a loop device", func(t *testing.T) {
		device := strings.TrimSpace(labtest.Run(t, "losetup", "--find", "--show", "--sizelimit", "8M", storage))
		b.device(t, "upon", fmt.Sprintf("0 %d linear %s 0", 8*mebi, device))
		defer labtest.Run(t, "losetup", "-d", device) // goes when the device above it does
		if err := b.dm().Admit(t.Context(), []provider.Volume{b.volume(t, "upon")}); err == nil || !strings.Contains(err.Error(), "upon lies on it") {
			t.Errorf("Admit: %v", err)
		}
	})
	t.Run("on a volume of the set, through a loop device", func(t *testing.T) {
		m := b.Origin(t, 0, "under")
		image := m.Volume().MountPoint + "/image"
		labtest.Run(t, "truncate", "-s", "32M", image)
		device := strings.TrimSpace(labtest.Run(t, "losetup", "--find", "--show", image))
		defer labtest.Run(t, "losetup", "-d", device)
		options := b.options
		options.Storage = device
		if err := provider.NewDM(b.control, options).Admit(t.Context(), []provider.Volume{m.Volume()}); err == nil || !strings.Contains(err.Error(), "lies on it") {
			t.Errorf("Admit: %v", err)
		}
	})
	t.Run("with larger sectors", func(t *testing.T) {
		options := b.options
		image := "/run/large"
		labtest.Run(t, "truncate", "-s", "32M", image)
		device := strings.TrimSpace(labtest.Run(t, "losetup", "--find", "--show", "--sector-size", "4096", image))
		defer labtest.Run(t, "sh", "-c", "losetup -d "+device+"; rm "+image)
		options.Storage = device
		if err := provider.NewDM(b.control, options).Admit(t.Context(), []provider.Volume{o.v}); err == nil || !strings.Contains(err.Error(), "sectors of 4096") {
			t.Errorf("Admit: %v", err)
		}
	})
	t.Run("too small, missing, none", func(t *testing.T) {
		b.device(t, "small", b.linear(1, 2*mebi))
		labtest.Run(t, "dd", "if=/dev/zero", "of=/dev/mapper/small", "bs=1M", "count=2", "status=none", "conv=fsync")
		for path, why := range map[string]string{"/dev/mapper/small": "only 2 MiB", "/dev/mapper/missing": "no such file", "/dev/null": "block device", "/dev/mapper": "below /dev"} {
			b.options.Storage = path
			refused(t, why)
			if pools, err := b.dm().Pools(); err != nil || len(pools) != 1 || (pools[0].Mode == "rw") != (why == "only 2 MiB") {
				t.Errorf("%s: %+v, %v", path, pools, err)
			}
		}
		b.options.Storage = storage
	})
	t.Run("while it has areas", func(t *testing.T) {
		p := b.dm()
		snaps := b.take(t, p, o.v)
		if out, status := labtest.Try(t, "mkfs.ext4", "-q", "-F", storage); status == 0 {
			t.Errorf("a filesystem was made on it: %s", out)
		}
		labtest.Run(t, "sh", "-c", "echo x >"+storage)
		e, err := p.Prepare(t.Context(), provider.Set{ID: "20261121T000000_ffff", Members: 1}, []provider.Volume{o.v})
		if err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("Prepare: %v", err)
		}
		if err := errors.Join(e.Abort(t.Context()), p.Delete(t.Context(), snaps)); err != nil {
			t.Error(err)
		}
		blank()
	})
	if err := b.dm().Admit(t.Context(), []provider.Volume{o.v}); err != nil {
		t.Errorf("blank again: %v", err)
	}
	if _, err := os.Stat(b.records); err != nil {
		t.Error(err)
	}
	b.clean(t)
}
