//go:build lab

package provider_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

func TestThick(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Bench { return newThickBench(t) })
}

// thickBench has plain volumes, and copy-on-write areas in their groups.
type thickBench struct{ *bench }

func newThickBench(t *testing.T) thickBench { return thickBench{newBench(t)} }

// fixed is a size of copy-on-write areas.
type fixed uint64

func (f fixed) Of(_, _ uint64) uint64 { return uint64(f) }
func (f fixed) String() string        { return fmt.Sprint(uint64(f)) }

func (b thickBench) Provider() provider.Provider { return b.thick() }

func (b thickBench) thick() *provider.Thick {
	return provider.NewThick(b.control, b.lvm, fixed(24<<20), percent(1))
}

// LongestName leaves room for the layer that LVM puts below an origin.
func (thickBench) LongestName(group int) int {
	return 126 - len(dm.JoinLVMName(groups[group], "", "real"))
}

func (b thickBench) Origin(t testing.TB, group int, name string) providertest.Origin {
	t.Helper()
	return b.origin(t, group, name, func(vg, size string) []string { return []string{"-L", size, vg} })
}

func (thickBench) Others(t testing.TB, o providertest.Origin) {
	t.Helper()
	vg, _, _ := strings.Cut(o.Volume().Name, "/")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-s", "-L", "8m", "-n", "other", o.Volume().Name)
	labtest.Run(t, "lvremove", "-qq", "-y", vg+"/other")
	labtest.Run(t, "vgck", vg)
}

// Fill takes the group's free extents.
func (b thickBench) Fill(t testing.TB) {
	t.Helper()
	labtest.Run(t, "lvcreate", "-qq", "-y", "-l", "100%FREE", "-n", "filler", "ft-a")
	b.made["ft--a-filler"] = true
}

// restart takes the group of a volume out of use and back, as a reboot does.
func (b thickBench) restart(t *testing.T, o providertest.Origin) {
	t.Helper()
	m := o.(mounted)
	labtest.Run(t, "umount", m.Vol.MountPoint)
	labtest.Run(t, "vgchange", "-qq", "-an", "ft-a")
	labtest.Run(t, "vgchange", "-qq", "-ay", "ft-a")
	m.Vol.Dev = b.volume(t, m.Vol.Device).Dev
	m.Mount(t)
}

// The daemon dies between any two steps of arming. The next one, or LVM alone, or a restart of the volume group copes.
func TestThickDeath(t *testing.T) {
	b := newThickBench(t)
	o := b.Origin(t, 0, "one")
	clean := b.Traces(t)
	remove := func(t *testing.T) {
		t.Helper()
		p := b.Provider()
		left, err := p.Snapshots(t.Context())
		if err != nil || len(left) != 1 || !left[0].Armed {
			t.Fatalf("left: %+v, %v", left, err)
		}
		if err := p.Delete(t.Context(), left); err != nil {
			t.Error(err)
		}
	}
	recoveries := []struct {
		name string
		do   func(t *testing.T)
	}{
		{"the next daemon", remove},
		{"restart", func(t *testing.T) {
			b.restart(t, o)
			remove(t)
		}},
		{"an administrator makes a snapshot first", func(t *testing.T) {
			b.Others(t, o)
			remove(t)
		}},
		{"an administrator removes it", func(t *testing.T) {
			left, err := b.Provider().Snapshots(t.Context())
			if err != nil || len(left) != 1 {
				t.Fatalf("left: %+v, %v", left, err)
			}
			name := dm.JoinLVMName("ft-a", strings.TrimPrefix(left[0].Name, "ft-a/"), "")
			parked := strings.Contains(labtest.Run(t, "dmsetup", "table", name), "error")
			waiting := strings.Contains(labtest.Run(t, "dmsetup", "info", name), "INACTIVE")
			out, status := labtest.Try(t, "lvremove", "-y", left[0].Name)
			if status != 0 {
				if !parked || !waiting { // only then does LVM need a second try: see Thick.unload
					t.Errorf("LVM cannot remove it: %s", out)
				}
				labtest.Run(t, "lvremove", "-y", left[0].Name)
			}
			if strings.Contains(out, "intervention") {
				t.Errorf("LVM calls for help: %s", out)
			}
		}},
	}
	for _, r := range recoveries {
		const steps = 4
		for n := range steps + 1 {
			t.Run(fmt.Sprintf("%s, after %d steps", r.name, n), func(t *testing.T) {
				set := provider.Set{ID: fmt.Sprintf("20261120T000000_%04x", n), Members: 1}
				if more, err := b.thick().ArmUntil(t.Context(), set, o.Volume(), n); err != nil || more != (n < steps) {
					t.Fatalf("more steps: %v, %v", more, err)
				}
				o.Write(t, "armed", fmt.Sprint(n)) // the origin takes writes in every state
				want := o.Content(t)
				r.do(t)
				if got := o.Content(t); !maps.Equal(got, want) {
					t.Errorf("the origin shows other content")
				}
				labtest.Run(t, "vgck", "ft-a")
				if after := b.Traces(t); after != clean {
					t.Errorf("left behind:\n%s", after)
				}
			})
		}
	}
	o.Check(t)
}

// What is only so with thick snapshots.
func TestThickSnapshots(t *testing.T) {
	b := newThickBench(t)
	o := b.Origin(t, 0, "one")
	take := func(t *testing.T, id string) provider.Snapshot {
		t.Helper()
		v := o.Volume()
		e, err := b.Provider().Prepare(t.Context(), provider.Set{ID: id, Members: 1}, []provider.Volume{v})
		if err != nil {
			t.Fatal(err)
		}
		e.Watch([]provider.Hold{new(fsfreeze.Cell)})
		if err := e.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.Freeze(t)
		err = errors.Join(e.PreCommit(), e.Commit(), e.PostCommit())
		o.Thaw(t)
		if err := errors.Join(err, e.Unlock(), e.Verify()); err != nil {
			t.Fatal(err)
		}
		snaps, err := e.Finalize(t.Context(), provider.Final{Consistency: "filesystem", Created: 1})
		if err != nil {
			t.Fatal(err)
		}
		return snaps[0]
	}
	remove := func(t *testing.T, s provider.Snapshot) {
		t.Helper()
		if err := b.Provider().Delete(t.Context(), []provider.Snapshot{s}); err != nil {
			t.Error(err)
		}
	}
	t.Run("which volumes are taken", func(t *testing.T) {
		s := take(t, "20261120T000000_0001")
		labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "64m", "-V", "32m", "--thinpool", "pool", "-n", "thin", "ft-a")
		device := "ft--a-one.20261120T000000_0001"
		for name, want := range map[string]string{
			device: "itself a thick snapshot", device + "-cow": "hidden", "ft--a-one-real": "hidden", "ft--a-thin": "a thin volume",
			"ft--a-pool_tdata": "hidden", "ft--a-pool-tpool": "hidden",
		} {
			if c, err := b.Provider().Claim(b.volume(t, name)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %+v, %v, want an error with %q", name, c, err, want)
			}
		}
		if c, err := b.Provider().Claim(o.Volume()); err != nil || c.Name != "ft-a/one" {
			t.Errorf("an origin of a snapshot: %+v, %v", c, err)
		}
		labtest.Run(t, "lvremove", "-qq", "-y", "ft-a/pool")
		remove(t, s)
	})
	t.Run("a finished snapshot outlives a restart", func(t *testing.T) {
		o.Write(t, "key", "before")
		s := take(t, "20261120T000000_0002")
		o.Write(t, "key", "after")
		b.restart(t, o)
		device, err := b.Provider().Expose(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Content(t, device)["key"]; got != "before" {
			t.Errorf("the snapshot shows %q", got)
		}
		remove(t, s)
	})
	t.Run("growing", func(t *testing.T) {
		s := take(t, "20261120T000000_0003")
		p := b.thick()
		for _, c := range [][2]uint64{{25 << 20, 28 << 20}, {8 << 20, 28 << 20}, {1 << 40, 68 << 20}} { // up to extents; never down; no more than a copy
			if err := p.Resize(t.Context(), s, c[0]); err != nil {
				t.Errorf("to %d: %v", c[0], err)
			}
			if u, err := p.Usage(s); err != nil || u.Size != c[1] {
				t.Errorf("grown to %d: %+v, %v, want %d", c[0], u, err, c[1])
			}
		}
		remove(t, s)
		s = take(t, "20261120T000000_0004")
		b.Fill(t)
		if err := p.Resize(t.Context(), s, 64<<20); !errors.Is(err, provider.ErrNoRoom) {
			t.Errorf("in a full group: %v", err)
		}
		labtest.Run(t, "lvremove", "-qq", "-y", "ft-a/filler")
		remove(t, s)
		if err := p.Resize(t.Context(), s, 64<<20); err == nil {
			t.Error("a snapshot that does not exist was extended")
		}
	})
	t.Run("what an interrupted lvcreate leaves is removed", func(t *testing.T) {
		labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "8m", "-n", "half", "--addtag", "fermata.armed", "--addtag", "fermata.set=x", "ft-a")
		left, err := b.Provider().Snapshots(t.Context())
		if err != nil || len(left) != 1 || !left[0].Armed {
			t.Fatalf("left: %+v, %v", left, err)
		}
		remove(t, left[0])
	})
	t.Run("read-only", func(t *testing.T) {
		s := take(t, "20261120T000000_0005")
		device, err := b.Provider().Expose(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if out := labtest.Run(t, "blockdev", "--getro", device); strings.TrimSpace(out) != "1" {
			t.Errorf("%s can be written to", device)
		}
		remove(t, s)
	})
	o.Check(t)
}
