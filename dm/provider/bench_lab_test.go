//go:build lab

package provider_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

// groups are the volume groups of a bench: one with a hyphen in its name, because hyphens double in device names.
var groups = []string{"ft-a", "ftb"}

// reserve of the bench's pools.
type percent uint64

func (p percent) Of(total uint64) uint64 { return total / 100 * uint64(p) }
func (p percent) String() string         { return fmt.Sprintf("%d%%", uint64(p)) }

// bench has two volume groups, each on a disk of its own.
type bench struct {
	control *dm.Control
	lvm     *lvm.LVM
	made    map[string]bool // device names that belong to the bench
}

func newBench(t *testing.T) *bench {
	labtest.CheckClean(t)
	control, err := dm.Open()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{control: control, lvm: lvm.New(lvm.Options{}), made: map[string]bool{}}
	disks := labtest.Disks(t)
	if len(disks) < 2 {
		t.Fatalf("the lab gave %d disks, the test needs 2", len(disks))
	}
	for i, vg := range groups {
		labtest.Run(t, "vgcreate", "-qq", "-ff", "-y", vg, disks[i])
		t.Cleanup(func() {
			labtest.Run(t, "vgremove", "-qq", "-ff", "-y", vg)
			labtest.Run(t, "pvremove", "-qq", "-ff", "-y", disks[i])
		})
	}
	t.Cleanup(func() {
		if err := b.lvm.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// origin makes a volume with ext4, or with XFS if it is named two; create says how, by a size.
func (b *bench) origin(t testing.TB, group int, name string, create func(vg, size string) []string) providertest.Origin {
	t.Helper()
	vg, fstype, size := groups[group], "ext4", "64m"
	if strings.Contains(name, "two") {
		fstype, size = "xfs", "320m"
	}
	labtest.Run(t, append([]string{"lvcreate", "-qq", "-y", "-n", name}, create(vg, size)...)...)
	device := dm.JoinLVMName(vg, name, "")
	b.made[device] = true
	t.Cleanup(func() {
		labtest.Run(t, "lvremove", "-qq", "-y", vg+"/"+name)
		delete(b.made, device)
	})
	v := b.volume(t, device)
	v.Name, v.FSType, v.MountPoint = vg+"/"+name, fstype, filepath.Join("/srv", vg, name)
	return mounted{providertest.Mount(t, b.control, v)}
}

// volume is what the kernel tells of a device.
func (b *bench) volume(t testing.TB, device string) provider.Volume {
	t.Helper()
	info, err := b.control.Info(dm.ByName(device))
	if err != nil {
		t.Fatal(err)
	}
	stack, err := fsfreeze.Stack(os.DirFS("/sys"), uint64(info.Dev))
	if err != nil {
		t.Fatal(err)
	}
	return provider.Volume{Dev: info.Dev, Device: device, UUID: info.UUID, Name: device, Size: stack.Size}
}

func (*bench) Content(t testing.TB, device string) providertest.Content {
	t.Helper()
	return providertest.ContentOf(t, device)
}

func (*bench) Write(t testing.TB, device, key, value string) {
	t.Helper()
	providertest.WriteTo(t, device, key, value)
}

// Traces are devices, volumes and locks that are not the bench's own.
func (b *bench) Traces(t testing.TB) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(labtest.Run(t, "dmsetup", "table")) {
		// A table of the bench's own can still tell of a snapshot: that of an origin of thick ones.
		if name, table, _ := strings.Cut(line, ":"); !b.made[name] || strings.Contains(table, "snapshot") {
			out = append(out, line)
		}
	}
	for line := range strings.Lines(labtest.Run(t, "lvs", "-a", "--noheadings", "-o", "vg_name,lv_name,lv_tags")) {
		if f := strings.Fields(line); !b.made[dm.JoinLVMName(f[0], f[1], "")] && !strings.HasPrefix(f[1], "[") && f[1] != "lvol0_pmspare" {
			out = append(out, line)
		}
	}
	locks, err := filepath.Glob("/run/lock/lvm/V_*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(out, locks...), "\n")
}

func (*bench) Remove(t testing.TB, snapshot string) {
	t.Helper()
	labtest.Run(t, "lvremove", "-qq", "-y", snapshot)
}

// Sum is the SHA-256 of all that a device holds, past every cache.
func (*bench) Sum(t testing.TB, device string) string {
	t.Helper()
	return labtest.Run(t, "sh", "-c", `dd if="$1" iflag=direct bs=1M status=none | sha256sum`, "sh", device)
}

// Load writes to a volume's filesystem at random until it is stopped.
func (*bench) Load(t testing.TB, o providertest.Origin) (stop func()) {
	t.Helper()
	c := exec.Command("fio", "--name=load", "--directory="+o.Volume().MountPoint, "--rw=randwrite", "--bs=4k", "--size=16m",
		"--ioengine=psync", "--fdatasync=8", "--time_based", "--runtime=600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := c.Process.Signal(unix.SIGINT); err != nil {
			t.Error(err)
		}
		if err := c.Wait(); c.ProcessState == nil {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(o.Volume().MountPoint, "load.0.0")); err != nil { // it was there, so fio has worked
			t.Error(err)
		}
	}
}

// mounted is a logical volume with a filesystem.
type mounted struct{ *providertest.Mounted }

// Check looks at the volume group, too.
func (o mounted) Check(t testing.TB) {
	t.Helper()
	o.Mounted.Check(t)
	vg, _, _ := strings.Cut(o.Vol.Name, "/")
	labtest.Run(t, "vgck", vg)
}
