//go:build lab

package system

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/lab/labtest"
)

// The crash matrix's power cuts: at every point of a set, or at a sample of them. This test runs once in each of many guests
// that have the same disks (FERMATA_LAB_CUTS says how many there may be). Each looks at what the last cut has left:
// filesystems clean, nothing half-made, the set that was finished before there with its contents, another one possible; then
// it takes a set and has the power cut at the next point. Writers write meanwhile. That the state directory is lost with the
// guest's root is a part of it. FERMATA_MATRIX_KINDS=dm: of a set of provider dm, which a reboot ends.
func TestPowerCut(t *testing.T) {
	k := powerKindOf(t)
	notes := bootNotes(t)
	p := k.resume(t, notes)
	if p.Boot != os.Getenv("LAB_BOOT") {
		t.Fatalf("this is boot %s, after boot %s without a cut", os.Getenv("LAB_BOOT"), p.Boot)
	}
	if p.Next > 0 {
		k.inspect(t, p, p.Cases[p.Next-1])
	}
	if t.Failed() {
		fmt.Printf("note: power cut at %s failed\n", p.Cases[p.Next-1].Point)
		p.Failed++
	}
	if p.Next == len(p.Cases) {
		fmt.Printf("note: power cuts, Linux %s, %s: %d cases, %d failed\n", release(t), k.name, len(p.Cases), p.Failed)
		if p.Failed > 0 {
			t.Errorf("%d of %d cases failed", p.Failed, len(p.Cases))
		}
		for _, m := range sets(t) {
			must(t, "snapshot", "delete", m.ID)
		}
		for _, v := range k.volumes {
			labtest.Run(t, "umount", v.Point)
		}
		k.remove(t)
		return
	}
	c := p.Cases[p.Next]
	p.Next++
	p.Boot = fmt.Sprint(p.Next + 1)
	p.save(t, notes)
	startLoad(t, points(k.volumes))
	create := append([]string{"at", c.Point, "cut", "--", "fermata", "snapshot", "create", "-q"}, points(k.volumes)...)
	var out []byte
	for range 3 { // on a busy host the lab may see the point too late
		out, _ = exec.Command(os.Getenv("LAB"), create...).CombinedOutput()
		for _, m := range sets(t) {
			if m.ID != p.Old {
				must(t, "snapshot", "delete", m.ID)
			}
		}
	}
	t.Fatalf("the power was not cut at %s\n%s\n%s", c.Point, out, journal(t))
}

// progress is what one boot leaves to the next.
type progress struct {
	Boot   string // which is to come
	Old    string // the set that was finished before
	Cases  []powerCase
	Next   int
	Failed int
}

type powerCase struct {
	Point string
	Kept  bool // the set is finished there
}

// bootNotes mounts the small disk that the boots tell each other by.
func bootNotes(t *testing.T) (file string) {
	t.Helper()
	disk, dir := labtest.Disks(t)[1], "/srv/notes"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("LAB_BOOT") == "1" {
		labtest.Run(t, "mkfs.ext4", "-q", disk)
	}
	if os.Getenv("LAB_BOOT") == "" {
		t.Fatal("this test wants to be run by the lab with FERMATA_LAB_CUTS")
	}
	labtest.Run(t, "mount", disk, dir)
	t.Cleanup(func() { labtest.Run(t, "umount", dir) })
	return filepath.Join(dir, "notes.json")
}

func (p progress) save(t *testing.T, file string) {
	t.Helper()
	text, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "sync", "-f", file)
}

// resume makes the volumes, or finds them as the cut left them.
func (k powerKind) resume(t *testing.T, notes string) (p progress) {
	t.Helper()
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	if os.Getenv("LAB_BOOT") == "1" {
		return k.begin(t)
	}
	text, err := os.ReadFile(notes)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.find(t)
	for _, v := range k.volumes {
		if err := os.MkdirAll(v.Point, 0o755); err != nil {
			t.Fatal(err)
		}
		v.Mount(t) // which replays the journal
		labtest.Run(t, "umount", v.Point)
		check := []string{"e2fsck", "-fn", v.Device()}
		if v.FSType == "xfs" {
			check = []string{"xfs_repair", "-n", v.Device()}
		}
		if out, status := labtest.Try(t, check...); status != 0 {
			t.Errorf("%s is damaged:\n%s", v.Point, out)
		}
		v.Mount(t)
		wantFile(t, filepath.Join(v.Point, "f"), "second")
	}
	return p
}

// begin makes the volumes, takes the older set, and says at which points the power is to be cut.
func (k powerKind) begin(t *testing.T) progress {
	t.Helper()
	k.create(t)
	for _, v := range k.volumes {
		labtest.Run(t, "mkfs."+v.FSType, "-q", v.Device())
		if err := os.MkdirAll(v.Point, 0o755); err != nil {
			t.Fatal(err)
		}
		v.Mount(t)
		write(t, filepath.Join(v.Point, "f"), "first")
	}
	p := progress{Boot: "1"}
	p.Old = strings.TrimSpace(must(t, append([]string{"snapshot", "create", "-q"}, points(k.volumes)...)...))
	for _, v := range k.volumes {
		write(t, filepath.Join(v.Point, "f"), "second")
	}
	unix.Sync()
	names := enumerate(t, points(k.volumes)...)
	for _, m := range sets(t) {
		if m.ID != p.Old {
			must(t, "snapshot", "delete", m.ID)
		}
	}
	finished := slices.Index(names, "finalise:done")
	for i, name := range names {
		p.Cases = append(p.Cases, powerCase{name, i >= finished})
	}
	if os.Getenv("FERMATA_MATRIX") != "full" {
		p.Cases = powerSample(p.Cases, seedOf(t))
	}
	return p
}

// inspect looks at what a cut has left.
func (k powerKind) inspect(t *testing.T, p progress, c powerCase) {
	t.Helper()
	t.Logf("after a cut at %s", c.Point)
	want := []string{p.Old}
	if k.volatile {
		want = nil
	}
	list := sets(t)
	var ids []string
	for _, m := range list {
		ids = append(ids, m.ID)
		if m.State != "complete" {
			t.Errorf("%s: set %s is %s", c.Point, m.ID, m.State)
		}
		if c.Kept && !k.volatile && m.ID != p.Old {
			want = append(want, m.ID) // one: it is not known by name
		}
	}
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) || c.Kept && !k.volatile && len(want) != 2 {
		t.Errorf("%s: sets %v, the one before was %s\n%s", c.Point, ids, p.Old, journal(t))
	}
	k.left(t, len(list))
	if !k.volatile {
		must(t, "snapshot", "mount", p.Old)
		for _, v := range k.volumes {
			wantFile(t, filepath.Join(mounted(t, p.Old, v.Point), "f"), "first")
		}
		must(t, "snapshot", "umount", p.Old)
	}
	for _, id := range ids {
		if id != p.Old {
			must(t, "snapshot", "delete", id)
		}
	}
	another := must(t, append([]string{"snapshot", "create", "-q"}, points(k.volumes)...)...)
	must(t, "snapshot", "delete", strings.TrimSpace(another)) // now: a cleanup never comes
}

// powerSample is one point of each kind, in turn: a record of the journal, and an ioctl of the window before and after it.
func powerSample(all []powerCase, seed uint64) []powerCase {
	pick := func(of func(point string) bool) powerCase {
		some := slices.DeleteFunc(slices.Clone(all), func(c powerCase) bool { return !of(c.Point) })
		return some[seed%uint64(len(some))]
	}
	return []powerCase{
		pick(func(p string) bool { return strings.Count(p, ":") == 1 }),
		pick(func(p string) bool { return strings.HasPrefix(p, "window:") && strings.HasSuffix(p, ":before") }),
		pick(func(p string) bool { return strings.HasPrefix(p, "window:") && strings.HasSuffix(p, ":after") }),
		pick(func(p string) bool { return p == "finalise:done" }),
	}
}
