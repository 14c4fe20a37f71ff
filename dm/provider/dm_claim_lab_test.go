//go:build lab

package provider_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/lab/labtest"
)

// What is taken, and what is refused and why.
func TestDMClaim(t *testing.T) {
	b := newDMBench(t)
	p := b.dm()
	refused := func(t *testing.T, v provider.Volume, why string) {
		t.Helper()
		if c, err := p.Claim(v); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %+v, %v, want %q", v.Device, c, err, why)
		}
	}
	t.Run("a key", func(t *testing.T) {
		labtest.Run(t, "modprobe", "-a", "dm-crypt")
		table := strings.Replace(b.linear(0, 8*mebi), "linear ", "crypt cipher_null-ecb - 0 ", 1)
		b.device(t, "secret", table)
		refused(t, b.volume(t, "secret"), "holds a key")
	})
	t.Run("multipath", func(t *testing.T) {
		labtest.Run(t, "modprobe", "dm-multipath")
		path := fmt.Sprintf("0 %d multipath %%s 0 1 1 round-robin 0 1 1 %s 1000", 16*mebi, b.disks[1])
		b.device(t, "mpa", fmt.Sprintf(path, "0"))
		refused(t, b.volume(t, "mpa"), "multipath")
		b.device(t, "mpb", fmt.Sprintf(path, "2 queue_mode bio"))
		refused(t, b.volume(t, "mpb"), "multipath")
		// The reason is the kernel's, in both modes. If that ever changes, so should we.
		for _, name := range []string{"mpa", "mpb"} {
			if out, status := labtest.Try(t, "dmsetup", "load", name, "--table", fmt.Sprintf("0 %d snapshot-origin /dev/mapper/storage", 16*mebi)); status == 0 {
				t.Errorf("%s can be replaced: %s", name, out)
			}
		}
		b.device(t, "upon", fmt.Sprintf("0 %d linear /dev/mapper/mpa 0", 16*mebi)) // a volume on it
		if err := p.Delete(t.Context(), b.take(t, p, b.volume(t, "upon"))); err != nil {
			t.Error(err)
		}
		b.clean(t)
	})
	t.Run("LVM", func(t *testing.T) {
		refused(t, provider.Volume{Device: "vg-lv", UUID: "LVM-abc", Dev: 1}, "LVM")
	})
	t.Run("its own", func(t *testing.T) {
		o := b.raw(t, "one")
		snaps := b.take(t, p, o.v)
		for _, name := range []string{snaps[0].Name, snaps[0].Name + "-cow", o.v.Dev.String() + "-real"} {
			refused(t, b.volume(t, "fermata@"+name), "Fermata's own")
		}
		if c, err := p.Claim(o.v); err != nil || c.Name != "one" {
			t.Errorf("with a snapshot: %+v, %v", c, err)
		}
		if err := p.Delete(t.Context(), snaps); err != nil {
			t.Error(err)
		}
	})
	t.Run("a physical volume", func(t *testing.T) { // LVM would find its label on the origin and on what lies below
		image := filepath.Join(t.TempDir(), "pv")
		labtest.Run(t, "truncate", "-s", "32M", image)
		device := strings.TrimSpace(labtest.Run(t, "losetup", "--find", "--show", image))
		defer labtest.Run(t, "losetup", "-d", device)
		labtest.Run(t, "dmsetup", "create", "pv", "--verifyudev", "--table", fmt.Sprintf("0 %d linear %s 0", 32*mebi, device))
		defer labtest.Run(t, "dmsetup", "remove", "--verifyudev", "pv")
		labtest.Run(t, "dmsetup", "mknodes", "pv")
		only := "--devices=/dev/mapper/pv" // the loop device below shows the same label: without this, which of the two LVM takes is a matter of luck
		labtest.Run(t, "vgcreate", only, "-qq", "-y", "inner", "/dev/mapper/pv")
		defer labtest.Run(t, "vgremove", only, "-qq", "-ff", "-y", "inner")
		labtest.Run(t, "lvcreate", only, "-qq", "-y", "-L", "4m", "-n", "lv", "inner")
		if _, err := p.Claim(b.volume(t, "pv")); err == nil || !strings.Contains(err.Error(), "inner-lv") {
			t.Errorf("Claim: %v", err)
		}
	})
	t.Run("no storage", func(t *testing.T) {
		none := provider.NewDM(b.control, provider.DMOptions{})
		if _, err := none.Claim(b.volume(t, "storage")); err == nil || !strings.Contains(err.Error(), "storage:") {
			t.Errorf("Claim: %v", err)
		}
		if l, err := none.Snapshots(t.Context()); len(l) > 0 || err != nil {
			t.Errorf("%v, %v", l, err)
		}
	})
	b.clean(t)
}

// A storage volume that lies on a volume of the set would wait for the thaw, and the thaw for it.
func TestDMStorage(t *testing.T) {
	b := newDMBench(t)
	o := b.Origin(t, 0, "one")
	t.Run("on a volume itself", func(t *testing.T) {
		if err := b.dm().Admit(t.Context(), []provider.Volume{o.Volume(), b.volume(t, "storage")}); err == nil || !strings.Contains(err.Error(), "lies on it") {
			t.Errorf("Admit: %v", err)
		}
	})
	t.Run("through a loop device and device-mapper", func(t *testing.T) {
		image := filepath.Join(o.Volume().MountPoint, "image")
		labtest.Run(t, "truncate", "-s", "32M", image)
		labtest.Run(t, "mkfs.ext4", "-q", image)
		device := strings.TrimSpace(labtest.Run(t, "losetup", "--find", "--show", image))
		labtest.Run(t, "dmsetup", "create", "stacked", "--verifyudev", "--table", fmt.Sprintf("0 %d linear %s 0", 32*mebi, device))
		dir := t.TempDir()
		labtest.Run(t, "mount", "/dev/mapper/stacked", dir)
		defer func() {
			labtest.Run(t, "umount", dir)
			labtest.Run(t, "dmsetup", "remove", "--verifyudev", "stacked")
			labtest.Run(t, "losetup", "-d", device)
		}()
		options := b.options
		options.Storage = dir
		if err := provider.NewDM(b.control, options).Admit(t.Context(), []provider.Volume{o.Volume()}); err == nil || !strings.Contains(err.Error(), "lies on it") {
			t.Errorf("Admit: %v", err)
		}
	})
	t.Run("the sum of the set", func(t *testing.T) {
		v := o.Volume()
		v.Size, v.COW = 400<<20, 300<<20
		if err := b.dm().Admit(t.Context(), []provider.Volume{v}); err != nil {
			t.Errorf("one: %v", err)
		}
		if err := b.dm().Admit(t.Context(), []provider.Volume{v, v}); !errors.Is(err, provider.ErrNoRoom) || !strings.Contains(err.Error(), b.options.Storage) {
			t.Errorf("two: %v", err)
		}
	})
	t.Run("that others can write to", func(t *testing.T) {
		if err := os.Chmod(b.options.Storage, 0o777); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(b.options.Storage, 0o755)
		if err := b.dm().Admit(t.Context(), []provider.Volume{o.Volume()}); err == nil || !strings.Contains(err.Error(), "chmod") {
			t.Errorf("Admit: %v", err)
		}
	})
	b.clean(t)
}
