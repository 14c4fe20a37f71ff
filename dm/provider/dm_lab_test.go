//go:build lab

package provider_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/lab/labtest"
)

func TestDM(t *testing.T) {
	for name, storage := range dmStorages {
		t.Run(name, func(t *testing.T) {
			providertest.Run(t, func(t *testing.T) providertest.Bench { return newDMBenchOn(t, storage()) })
		})
	}
}

// dmBench has linear and striped devices on one disk, and a storage volume on another.
type dmBench struct {
	*bench
	storage dmStorage
	records string
	options provider.DMOptions
	disks   [2]string
	next    [2]uint64 // first free sector of each disk
	tables  map[string]string
}

const mebi = 2048 // sectors

func newDMBench(t *testing.T) *dmBench { return newDMBenchOn(t, &onDirectory{}) }

func newDMBenchOn(t *testing.T, storage dmStorage) *dmBench {
	labtest.CheckClean(t)
	control, err := dm.Open()
	if err != nil {
		t.Fatal(err)
	}
	disks := labtest.Disks(t)
	if len(disks) < 2 {
		t.Fatalf("the lab gave %d disks, the test needs 2", len(disks))
	}
	b := &dmBench{
		bench: &bench{control: control, made: map[string]bool{}}, disks: [2]string(disks[:2]), tables: map[string]string{},
		storage: storage,
	}
	b.options = provider.DMOptions{
		COW: fixed(32 << 20), Reserve: percent(5), Report: func(err error) { t.Errorf("reported: %v", err) },
	}
	b.device(t, "storage", b.linear(1, 600*mebi))
	storage.make(t, b)
	return b
}

// linear is a table of so many sectors of a disk.
func (b *dmBench) linear(disk int, n uint64) string {
	start := b.next[disk]
	b.next[disk] += n
	return fmt.Sprintf("0 %d linear %s %d", n, b.disks[disk], start)
}

// device makes a device, for as long as the test takes.
func (b *dmBench) device(t testing.TB, name, table string) {
	t.Helper()
	labtest.Run(t, "dmsetup", "create", name, "--verifyudev", "--table", table)
	b.made[name] = true
	b.tables[name] = labtest.Run(t, "dmsetup", "table", name)
	t.Cleanup(func() {
		labtest.Run(t, "dmsetup", "remove", "--verifyudev", name)
		delete(b.made, name)
		delete(b.tables, name)
	})
}

func (b *dmBench) Provider() provider.Provider { return b.dm() }
func (b *dmBench) dm() *provider.DM            { return provider.NewDM(b.control, b.options) }
func (*dmBench) LongestName(int) int           { return 126 }

// Origin makes linear devices of two pieces with ext4, and striped ones with XFS if the name has "two" in it.
func (b *dmBench) Origin(t testing.TB, group int, name string) providertest.Origin {
	t.Helper()
	fstype := "ext4"
	if strings.Contains(name, "two") {
		fstype = "xfs"
		start := b.next[0]
		b.next[0] += 320 * mebi
		b.device(t, name, fmt.Sprintf("0 %d striped 2 128 %s %d %s %d", 320*mebi, b.disks[0], start, b.disks[0], start+160*mebi))
	} else {
		first := b.linear(group, 40*mebi)
		b.next[group] += mebi
		second := b.linear(group, 24*mebi)
		b.device(t, name, first+"\n"+strings.Replace(second, "0", fmt.Sprint(40*mebi), 1))
	}
	labtest.Run(t, "wipefs", "-qa", "/dev/mapper/"+name) // of the test before
	v := b.volume(t, name)
	v.FSType, v.MountPoint = fstype, filepath.Join("/srv", name)
	return providertest.Mount(t, b.control, v)
}

// Traces are devices, loop devices, files, and tables that are not the origins' own.
func (b *dmBench) Traces(t testing.TB) string {
	t.Helper()
	out := []string{b.bench.Traces(t), labtest.Run(t, "losetup", "--list", "--noheadings", "-O", "BACK-FILE")}
	for _, name := range slices.Sorted(maps.Keys(b.tables)) {
		if now := labtest.Run(t, "dmsetup", "table", name); now != b.tables[name] {
			out = append(out, name+": "+now)
		}
		if inactive, _, err := b.control.TableInactive(dm.ByName(name)); err != nil || len(inactive) > 0 {
			out = append(out, fmt.Sprintf("%s, inactive: %v, %v", name, inactive, err))
		}
	}
	entries, err := os.ReadDir(b.records)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".fermata.lock" && e.Name() != "lost+found" && e.Name() != "filler" {
			out = append(out, e.Name())
		}
	}
	return strings.Join(out, "\n")
}

func (*dmBench) Remove(t testing.TB, snapshot string) {
	t.Helper()
	labtest.Run(t, "dmsetup", "remove", "--verifyudev", "fermata@"+snapshot)
}

func (b *dmBench) Others(t testing.TB, o providertest.Origin) {
	t.Helper()
	name := o.Volume().Device
	if now := labtest.Run(t, "dmsetup", "table", name); now != b.tables[name] {
		t.Errorf("%s has table %s, had %s", name, now, b.tables[name])
	}
	labtest.Run(t, "dmsetup", "suspend", name)
	labtest.Run(t, "dmsetup", "resume", name)
}

func (b *dmBench) Fill(t testing.TB)  { b.storage.fill(t, b, 20<<20) }
func (b *dmBench) Break(t testing.TB) { b.storage.stop(t, b) }
func (b *dmBench) Mend(t testing.TB)  { b.storage.mend(t, b) }
