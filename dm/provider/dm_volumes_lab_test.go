//go:build lab

package provider_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/lab/labtest"
)

// raw is a volume without a filesystem, of 16 MiB.
type raw struct {
	b *dmBench
	v provider.Volume
}

func (b *dmBench) raw(t *testing.T, name string) raw {
	t.Helper()
	b.device(t, name, b.linear(0, 16*mebi))
	v := b.volume(t, name)
	v.Used = v.Size
	return raw{b, v}
}

// fill overwrites so many MiB from the beginning.
func (r raw) fill(t *testing.T, c byte, n int) {
	t.Helper()
	f, err := os.OpenFile("/dev/mapper/"+r.v.Device, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(bytes.Repeat([]byte{c}, n<<20))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatalf("cannot write %s: %v", r.v.Device, err)
	}
}

// holds fails the test unless the first n MiB of a device are all c.
func holds(t *testing.T, device string, c byte, n int) {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, n<<20)
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Errorf("cannot read %s: %v", device, err)
	}
	if i := bytes.IndexFunc(got, func(r rune) bool { return r != rune(c) }); i >= 0 {
		t.Errorf("%s has %q at %d, want %q", device, got[i], i, c)
	}
}

var dmSets int

func (b *dmBench) prepare(t *testing.T, p provider.Provider, vols ...provider.Volume) provider.Enlistment {
	t.Helper()
	dmSets++
	for i := range vols {
		c, err := p.Claim(vols[i])
		if err != nil {
			t.Fatalf("Claim: %v", err)
		}
		vols[i].Name = c.Name
	}
	e, err := p.Prepare(t.Context(), provider.Set{ID: fmt.Sprintf("20261121T000000_%04x", dmSets), Members: len(vols)}, vols)
	if err != nil {
		t.Fatalf("Prepare: %v", errors.Join(err, e.Abort(t.Context())))
	}
	return e
}

// fire takes what is armed.
func fire(t *testing.T, e provider.Enlistment) []provider.Snapshot {
	t.Helper()
	var holds []provider.Hold
	for range e.Origins() {
		holds = append(holds, new(fsfreeze.Cell))
	}
	if err := e.Lock(t.Context()); err != nil {
		t.Fatalf("Lock: %v", errors.Join(err, e.Abort(t.Context())))
	}
	e.Watch(holds)
	if err := errors.Join(e.PreCommit(), e.Commit(), e.PostCommit(), e.Unlock(), e.Verify()); err != nil {
		t.Fatalf("%v", errors.Join(err, e.Abort(t.Context())))
	}
	snaps, err := e.Finalize(t.Context(), provider.Final{Consistency: "crash", Created: 1})
	if err != nil {
		t.Fatalf("Finalize: %v", err)
	}
	return snaps
}

func (b *dmBench) take(t *testing.T, p provider.Provider, vols ...provider.Volume) []provider.Snapshot {
	t.Helper()
	return fire(t, b.prepare(t, p, vols...))
}

func (b *dmBench) listed(t *testing.T, p provider.Provider) []provider.Snapshot {
	t.Helper()
	l, err := p.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// clean fails the test if there are traces.
func (b *dmBench) clean(t *testing.T) {
	t.Helper()
	if traces := strings.TrimSpace(b.Traces(t)); traces != "" {
		t.Errorf("left behind:\n%s", traces)
	}
}

// What a daemon that is killed leaves, at each point of arming, firing and deleting, is cleared away by the next one.
func TestDMDeath(t *testing.T) { onEach(t, testDMDeath) }

func testDMDeath(t *testing.T, b *dmBench) {
	o := b.raw(t, "one")
	o.fill(t, 'o', 16)
	for _, c := range []struct {
		name  string
		fired bool
		undo  []string // in shell: NAME is the snapshot's, O the origin's number
	}{
		{"arming", false, []string{
			`dmsetup clear fermata@$NAME`,
			`dmsetup remove --verifyudev fermata@$NAME`,
			`dmsetup clear one`,
			`dmsetup remove --verifyudev fermata@$O-real`,
			`dmsetup remove --verifyudev fermata@$NAME-cow`,
			`losetup -D`,
			`rm -f $RECORDS/$NAME.fermata.cow`,
			`truncate -s 10 $RECORDS/$NAME.fermata.json`,
			`mv $RECORDS/$NAME.fermata.json $RECORDS/$NAME.fermata.json.new`,
		}},
		{"the guard has resumed the origin, without a snapshot", false, []string{
			`dmsetup suspend one && dmsetup resume one`,
			`dmsetup remove --verifyudev fermata@$NAME`,
		}},
		{"deleting", true, []string{
			`dmsetup remove --verifyudev fermata@$NAME`,
			`dmsetup remove --verifyudev fermata@$NAME-cow`,
			`losetup -D`,
			`rm -f $RECORDS/$NAME.fermata.cow`,
			`rm $RECORDS/$NAME.fermata.json`,
		}},
	} {
		for n := range len(c.undo) + 1 {
			t.Run(fmt.Sprintf("%s, %d", c.name, n), func(t *testing.T) {
				p := b.dm()
				e := b.prepare(t, p, o.v)
				if c.fired {
					if err := p.Mark(t.Context(), fire(t, e)); err != nil {
						t.Fatal(err)
					}
				}
				name := b.listed(t, p)[0].Name
				script := "set -e; RECORDS=" + b.records + " NAME=" + name + " O=" + o.v.Dev.String() + "; " + strings.Join(c.undo[:n], "; ")
				labtest.Run(t, "sh", "-c", script)
				next := b.dm()
				left := b.listed(t, next)
				for _, l := range left {
					if !l.Armed {
						t.Errorf("not armed: %+v", l)
					}
				}
				if err := next.Delete(t.Context(), left); err != nil {
					t.Error(err)
				}
				b.clean(t)
				holds(t, "/dev/mapper/one", 'o', 16)
			})
		}
	}
}

// A reboot takes all devices, and leaves the storage volume and the volumes as they are on disk.
func TestDMReboot(t *testing.T) { onEach(t, testDMReboot) }

func testDMReboot(t *testing.T, b *dmBench) {
	o := b.raw(t, "one")
	snap := b.take(t, b.dm(), o.v)[0]
	if !snap.Volatile {
		t.Errorf("%+v does not say that it is volatile", snap)
	}
	labtest.Run(t, "sh", "-c", `set -e
		dmsetup remove --verifyudev fermata@`+snap.Name+`
		dmsetup remove --verifyudev fermata@`+snap.Name+`-cow
		dmsetup load one --table "`+strings.TrimSpace(b.tables["one"])+`"
		dmsetup resume one
		dmsetup remove --verifyudev fermata@`+o.v.Dev.String()+`-real
		losetup -D`)
	b.storage.reboot(t, b)
	if l := b.listed(t, b.dm()); len(l) != 0 {
		t.Errorf("listed: %+v", l)
	}
	b.clean(t)
	p := b.dm()
	if err := p.Delete(t.Context(), b.take(t, p, o.v)); err != nil {
		t.Error(err)
	}
	b.clean(t)
}

// An area that is full costs the snapshot, and nothing else; one that has grown in time is not full.
func TestDMArea(t *testing.T) { onEach(t, testDMArea) }

func testDMArea(t *testing.T, b *dmBench) {
	o := b.raw(t, "one")
	o.v.COW = 2 << 20
	p := b.dm()
	o.fill(t, '1', 16)
	lost := b.take(t, p, o.v)[0]
	grown := b.take(t, p, o.v)[0]
	if u, err := p.Usage(lost); err != nil || u.Size != 2<<20 || u.Used >= 1<<20 || u.Invalid {
		t.Errorf("usage %+v, %v", u, err)
	}
	o.fill(t, '2', 1)
	for _, size := range []uint64{6<<20 + 1, 1 << 20} { // and smaller: nothing
		if err := p.Resize(t.Context(), grown, size); err != nil {
			t.Fatal(err)
		}
		if u, err := p.Usage(grown); err != nil || u.Size != 6<<20+4096 || u.Used < 1<<20 || u.Used >= 2<<20 {
			t.Errorf("usage %+v, %v", u, err)
		}
	}
	o.fill(t, '2', 5)
	holds(t, "/dev/mapper/one", '2', 5)
	device, err := p.Expose(t.Context(), grown)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, device, '1', 16)
	for _, l := range b.listed(t, p) {
		if (l.Invalid != "") != (l.Name == lost.Name) {
			t.Errorf("listed %+v", l)
		}
	}
	if u, err := p.Usage(lost); err != nil || !u.Invalid {
		t.Errorf("usage %+v, %v", u, err)
	}
	if err := p.Resize(t.Context(), lost, 8<<20); err == nil || !strings.Contains(err.Error(), "overflowed") {
		t.Errorf("an area that has overflowed was grown: %v", err)
	}
	if err := p.Delete(t.Context(), []provider.Snapshot{lost}); err != nil {
		t.Error(err)
	}
	o.fill(t, '3', 5)
	holds(t, device, '1', 16)
	if err := p.Delete(t.Context(), []provider.Snapshot{grown}); err != nil {
		t.Error(err)
	}
	b.clean(t)
	t.Run("full before the set is finished", func(t *testing.T) {
		e := b.prepare(t, p, o.v)
		if err := e.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.Watch([]provider.Hold{new(fsfreeze.Cell)})
		if err := errors.Join(e.PreCommit(), e.Commit(), e.PostCommit(), e.Unlock()); err != nil {
			t.Fatal(err)
		}
		o.fill(t, '4', 5)
		if err := e.Verify(); !errors.Is(err, provider.ErrPool) || !strings.Contains(err.Error(), "cow") {
			t.Errorf("Verify: %v", err)
		}
		if err := e.Abort(t.Context()); err != nil {
			t.Error(err)
		}
		holds(t, "/dev/mapper/one", '4', 5)
		b.clean(t)
	})
	t.Run("a full storage volume breaks nothing", func(t *testing.T) {
		kept := b.take(t, p, o.v)[0]
		b.storage.fill(t, b, 0)
		o.fill(t, '5', 1)
		device, err := p.Expose(t.Context(), kept)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, device, '4', 5)
		if err := p.Resize(t.Context(), kept, 8<<20); !errors.Is(err, provider.ErrNoRoom) {
			t.Errorf("Resize: %v", err)
		}
		if err := p.Delete(t.Context(), []provider.Snapshot{kept}); err != nil {
			t.Error(err)
		}
		b.clean(t)
	})
}

// Tables that somebody else loads are noticed, and left as they are.
func TestDMOthersTables(t *testing.T) {
	b := newDMBench(t)
	o := b.raw(t, "one")
	p := b.dm()
	theirs := strings.Replace(b.tables["one"], "0 ", fmt.Sprintf("0 %d linear %s %d\n%d ", mebi, b.disks[0], 1900*mebi, mebi), 1)
	theirs = strings.Replace(theirs, fmt.Sprintf("%d %d linear", mebi, 16*mebi), fmt.Sprintf("%d %d linear", mebi, 15*mebi), 1)
	load := func(table string) {
		t.Helper()
		labtest.Run(t, "sh", "-c", "dmsetup load one --table '"+strings.TrimSpace(table)+"' && dmsetup resume one")
		b.tables["one"] = labtest.Run(t, "dmsetup", "table", "one")
	}
	own := b.tables["one"]
	t.Run("while armed", func(t *testing.T) {
		e := b.prepare(t, p, o.v)
		load(theirs)
		if err := e.Lock(t.Context()); !errors.Is(err, provider.ErrChanged) {
			t.Errorf("Lock: %v", err)
		}
		if err := e.Abort(t.Context()); err != nil {
			t.Error(err)
		}
		b.clean(t)
		load(own)
	})
	t.Run("while there is a snapshot", func(t *testing.T) {
		snaps := b.take(t, p, o.v)
		load(theirs)
		if l := b.listed(t, p); len(l) != 1 || !strings.Contains(l[0].Invalid, "another table") {
			t.Errorf("listed %+v", l)
		}
		if e, err := p.Prepare(t.Context(), provider.Set{ID: "20261121T000000_ffff", Members: 1}, []provider.Volume{o.v}); !errors.Is(err, provider.ErrChanged) {
			t.Errorf("Prepare: %v", err)
		} else if err := e.Abort(t.Context()); err != nil {
			t.Error(err)
		}
		if err := p.Delete(t.Context(), snaps); err != nil {
			t.Error(err)
		}
		b.clean(t)
		load(own)
	})
	t.Run("that maps the copy", func(t *testing.T) {
		snaps := b.take(t, p, o.v)
		load(fmt.Sprintf("0 %d linear /dev/dm-%d 0", 8*mebi, b.volume(t, "fermata@"+o.v.Dev.String()+"-real").Dev.Minor()))
		if err := p.Delete(t.Context(), snaps); !errors.Is(err, provider.ErrChanged) || !strings.Contains(err.Error(), "dmsetup table") {
			t.Errorf("Delete: %v", err)
		}
		load(own)
		if err := p.Delete(t.Context(), snaps); err != nil {
			t.Error(err)
		}
		b.clean(t)
	})
	t.Run("that is not live yet", func(t *testing.T) {
		labtest.Run(t, "dmsetup", "load", "one", "--table", strings.TrimSpace(own))
		e, err := p.Prepare(t.Context(), provider.Set{ID: "20261121T000000_fffe", Members: 1}, []provider.Volume{o.v})
		if err == nil || !strings.Contains(err.Error(), "dmsetup clear") {
			t.Errorf("Prepare: %v", err)
		}
		if err := e.Abort(t.Context()); err != nil {
			t.Error(err)
		}
		if table, _, err := b.control.TableInactive(dm.ByName("one")); err != nil || len(table) != 1 {
			t.Errorf("inactive: %v, %v", table, err)
		}
		labtest.Run(t, "dmsetup", "clear", "one")
		b.clean(t)
	})
	t.Run("and a snapshot in use is not deleted", func(t *testing.T) {
		snaps := b.take(t, p, o.v)
		device, err := p.Expose(t.Context(), snaps[0])
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(device)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Delete(t.Context(), snaps); !errors.Is(err, unix.EBUSY) {
			t.Errorf("Delete: %v", err)
		}
		if l := b.listed(t, p); len(l) != 1 || l[0].Invalid != "" {
			t.Errorf("listed %+v", l)
		}
		if err := errors.Join(f.Close(), p.Delete(t.Context(), snaps)); err != nil {
			t.Error(err)
		}
		b.clean(t)
	})
}
