//go:build lab

package provider_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/lab/labtest"
)

func TestThin(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Bench { return newThinBench(t) })
}

// What is only so with thin pools.
func TestThinPools(t *testing.T) {
	b := newThinBench(t)
	o := b.Origin(t, 0, "one")
	arm := func(t *testing.T, id string) provider.Enlistment {
		t.Helper()
		e, err := b.Provider().Prepare(t.Context(), provider.Set{ID: id, Members: 1}, []provider.Volume{o.Volume()})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	t.Run("what only looks like a thin volume is not taken", func(t *testing.T) {
		labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "8m", "-n", "linear", "ft-a")
		for _, device := range []string{"ft--a-linear", "ft--a-pool", "ft--a-pool-tpool", "ft--a-pool_tdata"} {
			if c, err := b.Provider().Claim(b.volume(t, device)); err == nil {
				t.Errorf("%s was taken as %+v", device, c)
			}
		}
		if c, err := b.Provider().Claim(o.Volume()); err != nil || c.Name != "ft-a/one" {
			t.Errorf("got %+v, %v", c, err)
		}
	})
	t.Run("any change of the pool gives an armed set up", func(t *testing.T) { // thin device ids may be somebody else's by now
		e := arm(t, "20261120T000000_0001")
		labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "8m", "--thin", "-n", "another", "ft-a/pool")
		if err := e.Lock(t.Context()); !errors.Is(err, provider.ErrChanged) {
			t.Errorf("Lock: %v", err)
		}
		if err := e.Abort(t.Context()); err != nil {
			t.Error(err)
		}
		b.Others(t, o)
	})
	t.Run("an origin that was resized gives an armed set up", func(t *testing.T) { // the pool's transaction id does not tell
		e := arm(t, "20261120T000000_0003")
		labtest.Run(t, "lvextend", "-qq", "-y", "-L", "+8m", "ft-a/one")
		if err := e.Lock(t.Context()); !errors.Is(err, provider.ErrChanged) {
			t.Errorf("Lock: %v", err)
		}
		if err := errors.Join(e.Unlock(), e.Abort(t.Context())); err != nil {
			t.Error(err)
		}
		b.Others(t, o)
	})
	t.Run("an origin that is resized after the capture costs no set", func(t *testing.T) {
		e := arm(t, "20261120T000000_0004")
		if err := errors.Join(e.Lock(t.Context()), e.Unlock()); err != nil {
			t.Error(err)
		}
		labtest.Run(t, "lvextend", "-qq", "-y", "-L", "+8m", "ft-a/one")
		if err := e.Verify(); err != nil {
			t.Errorf("Verify: %v", err)
		}
		if err := e.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("no lvm command changes a locked group", func(t *testing.T) {
		e := arm(t, "20261120T000000_0002")
		if err := e.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		out, status := labtest.Try(t, "lvcreate", "-qq", "-y", "-V", "8m", "--thin", "-n", "late", "ft-a/pool", "--config", "global/wait_for_locks=0")
		if status == 0 || !strings.Contains(out, "lock") {
			t.Errorf("lvcreate inside the lock: status %d: %s", status, out)
		}
		if err := errors.Join(e.Unlock(), e.Abort(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// thinBench has a thin pool "pool" in each group.
type thinBench struct{ *bench }

func newThinBench(t *testing.T) thinBench {
	b := newBench(t)
	for _, vg := range groups {
		labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "256m", "--thinpool", vg+"/pool", "--poolmetadatasize", "8m", "--errorwhenfull", "y")
		for _, layer := range []string{"pool", "pool-tpool", "pool_tdata", "pool_tmeta"} {
			b.made[dm.EscapeLVMName(vg)+"-"+layer] = true
		}
	}
	return thinBench{b}
}

func (b thinBench) Provider() provider.Provider {
	return provider.NewThin(b.control, b.lvm, provider.Reserve{Data: percent(10), Metadata: percent(10)})
}

// LongestName leaves a device name of 126 characters, which is as much as LVM allows.
func (thinBench) LongestName(group int) int { return 126 - len(dm.JoinLVMName(groups[group], "", "")) }

func (b thinBench) Origin(t testing.TB, group int, name string) providertest.Origin {
	t.Helper()
	return b.origin(t, group, name, func(vg, size string) []string { return []string{"-V", size, "--thin", vg + "/pool"} })
}

func (thinBench) Others(t testing.TB, o providertest.Origin) {
	t.Helper()
	vg, _, _ := strings.Cut(o.Volume().Name, "/")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-s", "-n", "other", o.Volume().Name)
	labtest.Run(t, "lvchange", "-qq", "-ay", "-K", vg+"/other")
	labtest.Run(t, "lvremove", "-qq", "-y", vg+"/other")
	labtest.Run(t, "vgck", vg)
}

// Fill leaves less room than the reserve.
func (b thinBench) Fill(t testing.TB) { b.filler(t, "240") }

// Break fills the pool until it takes no more: a pool that has run out of data space fails writes at once, for it was
// made so.
func (b thinBench) Break(t testing.TB) { b.filler(t, "260") }

func (b thinBench) filler(t testing.TB, megabytes string) {
	t.Helper()
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "320m", "--thin", "-n", "filler", "ft-a/pool")
	b.made["ft--a-filler"] = true
	labtest.Try(t, "dd", "if=/dev/zero", "of=/dev/mapper/ft--a-filler", "bs=1M", "oflag=direct", "status=none", "count="+megabytes)
}
