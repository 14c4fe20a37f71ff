//go:build lab

package system

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// record is one write of the order test: its number, twice, so that half a record is seen as such.
const record = 16

// Invariant I1: if write B was issued after write A was acknowledged, no set ever holds B without A, whichever volumes
// they went to. One program writes numbered records to four volumes in turn, each synchronised before the next is
// issued; every set must then hold all records up to some number, and none after it.
func TestOrder(t *testing.T) {
	withoutUdev(t)
	vols := thinVolumes(t, 3)
	takeInOrder(t, append(vols, labtest.Thin(t, "vg", "x", "320m", "xfs")), 0, orderSets(t))
}

// The same with a volume of each kind: thin with ext4, thick with XFS, device-mapper without LVM with ext4, thin with btrfs.
func TestOrderMixed(t *testing.T) {
	withoutUdev(t)
	vols := thinVolumes(t, 1)
	vols = append(vols, thickVolume(t, "x", "320m", "xfs"))
	vols = append(vols, dmVolume(t, "plain", 64), labtest.Thin(t, "vg", "b", "300m", "btrfs"))
	takeInOrder(t, vols, 2<<20, orderSets(t))
}

// The same with a btrfs that its plug-in captures unheld. Its instant, of a transaction of its own, lies inside the window,
// while all others are held: so it is theirs, too. That it goes on being written meanwhile is seen in nothing.
func TestOrderUnheld(t *testing.T) {
	withoutUdev(t)
	vols := append(thinVolumes(t, 2), labtest.Thin(t, "vg", "b", "300m", "btrfs"))
	configure(t, map[string]string{"providers.d/btrfs.yaml": "type: plugin\ncommand: [" + shipped + "btrfs]\n"})
	for i, v := range create(t, points(vols)...).Volumes {
		if unheld := v.Provider == "btrfs" && !v.Frozen; unheld != (i == 2) {
			t.Fatalf("got %+v", v)
		}
	}
	takeInOrder(t, vols, 0, min(5, orderSets(t)))
}

// orderSets is FERMATA_ORDER_SETS, or 10.
func orderSets(t *testing.T) int {
	t.Helper()
	v := os.Getenv("FERMATA_ORDER_SETS")
	if v == "" {
		return 10
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// takeInOrder takes n sets of the volumes, one after the other, while records are written, and looks at what each of them
// holds. The files of records have so many bytes beforehand: what is overwritten in
// place is seen on a device without a journal's replay, even if nothing was frozen; what is appended shows that it was.
func takeInOrder(t *testing.T, vols []labtest.Volume, room, n int) {
	t.Helper()
	w := startWriting(t, vols, room)
	violations := 0
	var took laps
	progress := labtest.Stalled(t, 2*time.Minute)
	for i := range n {
		progress()
		took.start()
		w.paused.Store(false)
		m := create(t, points(vols)...)
		w.paused.Store(true) // a guest has one processor: the rest is faster without the load
		took.lap("create")
		for _, p := range m.Phases {
			took.add("create: "+p.Name, p.Duration)
		}
		var mounts []api.Mount
		decode(t, must(t, "snapshot", "mount", "--json", m.ID), &mounts)
		took.lap("mount")
		last := make([]uint64, len(vols))
		for k, v := range vols {
			at := slices.IndexFunc(mounts, func(x api.Mount) bool { return x.MountPoint == v.Point })
			if at < 0 {
				t.Fatalf("set %s has no mount of %s: %+v", m.ID, v.Point, mounts)
			}
			last[k] = lastRecord(t, filepath.Join(mounts[at].Path, "records"), uint64(len(vols)))
		}
		if err := inOrder(last); err != nil {
			violations++
			t.Errorf("set %d: %v", i, err)
		}
		took.lap("read")
		must(t, "snapshot", "delete", m.ID)
		took.lap("delete")
	}
	written := w.stop(t)
	t.Logf("%d sets over %d volumes, %d records written, %d violations; %v", n, len(vols), written, violations, took)
	if written < uint64(n*len(vols)) {
		t.Errorf("only %d records were written: there was no load", written)
	}
}

// laps adds up where the time goes.
type laps struct {
	since time.Time
	names []string
	sums  map[string]time.Duration
}

func (l *laps) start() { l.since = time.Now() }

// lap ends a part, which begins at start or at the end of the last one.
func (l *laps) lap(name string) {
	now := time.Now()
	l.add(name, now.Sub(l.since))
	l.since = now
}

func (l *laps) add(name string, d time.Duration) {
	if l.sums == nil {
		l.sums = map[string]time.Duration{}
	}
	if _, known := l.sums[name]; !known {
		l.names = append(l.names, name)
	}
	l.sums[name] += d
}

func (l laps) String() string {
	var parts []string
	for _, name := range l.names {
		parts = append(parts, fmt.Sprintf("%s %v", name, l.sums[name].Round(time.Millisecond)))
	}
	return strings.Join(parts, ", ")
}

// inOrder checks the last record numbers that were found on each volume: record i went to volume i mod n.
func inOrder(last []uint64) error {
	n := uint64(len(last))
	highest := uint64(0)
	for _, l := range last {
		highest = max(highest, l)
	}
	for k, l := range last {
		// The highest number up to highest that belongs to volume k; numbers begin with 1.
		due := highest - (highest-uint64(k)+n)%n
		if highest < uint64(k) {
			due = 0
		}
		if l != due {
			return fmt.Errorf("volume %d ends with record %d, but record %d is there, so %d must be (all: %v)", k, l, highest, due, last)
		}
	}
	return nil
}

// lastRecord reads a volume's file of records and checks that they follow each other.
func lastRecord(t *testing.T, path string, volumes uint64) uint64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.TrimRight(b, "\x00") // space that the filesystem has given but the data did not reach
	if rest := len(b) % record; rest != 0 {
		b = append(b, make([]byte, record-rest)...)
	}
	var last uint64
	for ; len(b) > 0; b = b[record:] {
		n, again := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		if n != again || last != 0 && n != last+volumes {
			t.Fatalf("%s: after record %d comes %d/%d", path, last, n, again)
		}
		last = n
	}
	return last
}

type writing struct {
	paused   atomic.Bool
	stopping atomic.Bool
	done     chan error
	written  atomic.Uint64
}

func startWriting(t *testing.T, vols []labtest.Volume, room int) *writing {
	t.Helper()
	var fds []int
	for _, v := range vols {
		path := filepath.Join(v.Point, "records")
		write(t, path, strings.Repeat("\x00", room))
		fd, err := unix.Open(path, unix.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	w := &writing{done: make(chan error, 1)}
	w.paused.Store(true)
	go func() {
		var b [record]byte
		for i := uint64(1); !w.stopping.Load(); i++ {
			for w.paused.Load() && !w.stopping.Load() {
				time.Sleep(time.Millisecond)
			}
			binary.BigEndian.PutUint64(b[:], i)
			binary.BigEndian.PutUint64(b[8:], i)
			n := uint64(len(fds))
			fd := fds[i%n]
			begin := time.Now()
			if _, err := unix.Pwrite(fd, b[:], int64(i/n)*record); err != nil {
				w.done <- err
				return
			}
			if err := unix.Fsync(fd); err != nil {
				w.done <- err
				return
			}
			w.written.Store(i)
			// A guest has one processor, and LVM needs some of it. But a write that was long blocked is followed by the next.
			time.Sleep(min(2*time.Since(begin), 5*time.Millisecond))
		}
		var err error
		for _, fd := range fds {
			if e := unix.Close(fd); e != nil {
				err = e
			}
		}
		w.done <- err
	}()
	t.Cleanup(func() { w.stop(t) })
	return w
}

// stop ends the writing and tells how many records were written.
func (w *writing) stop(t *testing.T) uint64 {
	if !w.stopping.Swap(true) {
		if err := <-w.done; err != nil {
			t.Errorf("the writing program: %v", err)
		}
	}
	return w.written.Load()
}

func TestInOrder(t *testing.T) {
	tests := []struct {
		last []uint64
		ok   bool
	}{
		{[]uint64{0, 0, 0, 0}, true},
		{[]uint64{0, 1, 0, 0}, true},
		{[]uint64{4, 1, 2, 3}, true},
		{[]uint64{4, 5, 2, 3}, true},
		{[]uint64{8, 5, 6, 7}, true},
		{[]uint64{8, 5, 6, 3}, false}, // 8 without 7
		{[]uint64{4, 9, 6, 7}, false}, // 9 without 8
		{[]uint64{0, 0, 2, 0}, false},
		{[]uint64{8, 9, 10, 11}, true},
	}
	for _, tt := range tests {
		if err := inOrder(tt.last); (err == nil) != tt.ok {
			t.Errorf("%v: got %v", tt.last, err)
		}
	}
}
