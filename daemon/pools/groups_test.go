package pools

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm/metadata"
	"github.com/fermata-project/fermata/dm/provider"
)

// groupHost is a source of volume groups, and its events.
type groupHost struct {
	mu     sync.Mutex
	groups []dm.Group
	disks  map[dm.Dev][]byte
	hang   chan struct{} // not nil: disks do not answer until it is closed
	event  chan struct{}
	opened int
	listed int
	texts  int // how often more than a header was read
}

func (h *groupHost) Groups() ([]dm.Group, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed++
	return h.groups, nil
}

func (h *groupHost) Open(dev dm.Dev) (metadata.Disk, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened++
	d, ok := h.disks[dev]
	if !ok {
		return nil, errors.New("no such disk")
	}
	return &groupDisk{h, bytes.NewReader(d), h.hang}, nil
}

type groupDisk struct {
	host *groupHost
	*bytes.Reader
	hang chan struct{}
}

func (d *groupDisk) ReadAt(b []byte, at int64) (int, error) {
	if d.hang != nil {
		<-d.hang
	}
	if at > 4096 {
		d.host.mu.Lock()
		d.host.texts++
		d.host.mu.Unlock()
	}
	return d.Reader.ReadAt(b, at)
}

func (d *groupDisk) Close() error { return nil }

func (h *groupHost) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-h.event:
		return nil
	}
}

// write puts the metadata of a group of 100 extents of 4 MiB on a disk.
func (h *groupHost) write(dev dm.Dev, name, uuid string, seqno, used int, more ...string) {
	text := fmt.Sprintf(`%s {id="%s" seqno=%d extent_size=8192 physical_volumes {pv0 {status=["ALLOCATABLE"] pe_count=100}} `+
		`logical_volumes {a {segment1 {extent_count=%d stripe_count=1 stripes=["pv0",0]}} %s}}`, name, uuid, seqno, used, strings.Join(more, " "))
	sum := func(b []byte) uint32 { return ^crc32.Update(^uint32(0xf597a6cf), crc32.IEEETable, b) }
	d := make([]byte, 16384)
	put, put32 := binary.LittleEndian.PutUint64, binary.LittleEndian.PutUint32
	label, head := d[512:1024], d[4096:4608]
	copy(label, "LABELONE")
	put(label[8:], 1)
	put32(label[20:], 32)
	copy(label[24:], "LVM2 001")
	put(label[88:], 4096)
	put(label[96:], 12288)
	put32(label[16:], sum(label[20:]))
	copy(head[4:], " LVM2 x[5A%r0N*>")
	put32(head[20:], 1)
	for i, n := range []int{4096, 12288, 512, len(text)} {
		put(head[24+8*i:], uint64(n))
	}
	put32(head[56:], sum([]byte(text)))
	put32(head, sum(head[4:]))
	copy(d[4608:], text)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disks[dev] = d
}

// watchedGroups runs a watch of groups in a bubble of its own time. All groups but the first are only touched.
func watchedGroups(t *testing.T, test func(h *groupHost, w *GroupWatch, changes func() string, quiet *atomic.Bool)) {
	synctest.Test(t, func(t *testing.T) {
		h := &groupHost{event: make(chan struct{}), disks: map[dm.Dev][]byte{}}
		h.groups = []dm.Group{{UUID: "ab", Name: "vg", Disks: []dm.Dev{1, 2}}, {UUID: "cd", Name: "other", Disks: []dm.Dev{3}}, {UUID: "ef", Name: "unasked", Disks: []dm.Dev{4}}}
		h.write(1, "vg", "a-b", 5, 50)
		h.write(2, "vg", "a-b", 5, 50)
		h.write(3, "other", "cd", 9, 100)
		var told []string
		var quiet atomic.Bool
		quiet.Store(true)
		concern := func([]dm.Group) map[string]Concern { return map[string]Concern{"ab": Used, "cd": Touched} }
		report := func(c GroupChange) { told = append(told, fmt.Sprintf("%s %v to %v", c.Name, c.Was, c.Level)) }
		w := NewGroupWatch(h, h, Thresholds{0.9, 0.97}, concern, quiet.Load, report, slog.New(slog.NewTextHandler(io.Discard, nil)))
		during(t, w.Run, &told, func(changes func() string) { test(h, w, changes, &quiet) })
	})
}

func TestGroups(t *testing.T) {
	watchedGroups(t, func(h *groupHost, w *GroupWatch, changes func() string, quiet *atomic.Bool) {
		got := w.Groups()
		if len(got) != 2 || got[0].Name != "other" || got[0].Level != OK || got[0].Free != 0 || got[1].Name != "vg" || got[1].Size != 400<<20 || got[1].Free != 200<<20 || !got[1].Used {
			t.Fatalf("at first: %+v", got)
		}
		// One disk is behind: the highest number counts. Nobody tells: within a minute.
		h.write(1, "vg", "a-b", 7, 92)
		time.Sleep(time.Minute + time.Second)
		if got := changes(); got != "vg ok to warning" {
			t.Errorf("filled, without an event: %q", got)
		}
		// What LVM writes down after the event is seen too.
		h.event <- struct{}{}
		time.Sleep(2 * time.Second)
		h.write(2, "vg", "a-b", 8, 99)
		time.Sleep(5 * time.Second)
		if got := changes(); got != "vg warning to critical" || !strings.Contains(w.Groups()[1].Reason, "99.0 %") {
			t.Errorf("written after the event: %q, %+v", got, w.Groups())
		}
		// A disk that is gone, or is another group's by now, costs nothing.
		h.mu.Lock()
		delete(h.disks, 1)
		h.mu.Unlock()
		h.write(2, "new", "a-b", 9, 10)
		h.event <- struct{}{}
		time.Sleep(2 * time.Second)
		if got := changes(); got != "new critical to ok" || w.Groups()[0].Err != nil {
			t.Errorf("renamed, with a disk less: %q, %+v", got, w.Groups())
		}
		h.write(2, "another", "x-y", 100, 100)
		time.Sleep(2 * time.Minute)
		if got := w.Groups()[0]; got.Err == nil || got.Free != 360<<20 || changes() != "" {
			t.Errorf("without any disk: %+v", got)
		}
		h.mu.Lock()
		h.groups = h.groups[1:]
		h.mu.Unlock()
		h.event <- struct{}{}
		time.Sleep(2 * time.Second)
		if got := w.Groups(); len(got) != 1 {
			t.Errorf("of a group that is gone: %+v", got)
		}
	})
}

// Fermata's snapshots in a group are known, and each look is told of.
func TestGroupMarks(t *testing.T) {
	watchedGroups(t, func(h *groupHost, w *GroupWatch, changes func() string, quiet *atomic.Bool) {
		<-w.Looked()
		h.write(1, "vg", "a-b", 6, 50, `s {tags=["fermata.set=one", "fermata.policy=p"]}`, `x {tags=["backup"]}`,
			`r {tags=["fermata.scratch", "fermata.set=one"]}`, `h {tags=["fermata.armed", "fermata.set=two"]}`)
		h.event <- struct{}{}
		time.Sleep(2 * time.Second)
		<-w.Looked()
		want := map[string]provider.Mark{"vg/s": {Set: "one"}, "vg/r": {Set: "one", Scratch: true}, "vg/h": {Set: "two", Armed: true}}
		if got := w.Groups()[1].Marks; !maps.Equal(got, want) {
			t.Errorf("%v", got)
		}
		h.write(2, "new", "a-b", 7, 50, `s {tags=["fermata.set=one"]}`)
		time.Sleep(2 * time.Minute)
		if got := w.Groups()[0].Marks; !maps.Equal(got, map[string]provider.Mark{"new/s": {Set: "one"}}) {
			t.Errorf("renamed, with less in it: %v", got)
		}
	})
}

// While something is frozen no disk is touched; disks that hang keep nobody but their own group; and what does not change is not read
// again.
func TestGroupsWait(t *testing.T) {
	watchedGroups(t, func(h *groupHost, w *GroupWatch, changes func() string, quiet *atomic.Bool) {
		count := func() (opened, listed, texts int) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.opened, h.listed, h.texts
		}
		opened, listed, texts := count()
		time.Sleep(time.Hour + time.Second)
		if o, l, x := count(); o-opened != 3*60 || l-listed != 6 || x != texts {
			t.Errorf("in an hour without change: %d disks opened, %d listings, %d texts read", o-opened, l-listed, x-texts)
		}
		quiet.Store(false)
		opened, _, _ = count()
		time.Sleep(10 * time.Minute)
		if o, _, _ := count(); o > opened {
			t.Errorf("%d disks were opened while something was frozen", o-opened)
		}
		quiet.Store(true)
		time.Sleep(2 * time.Second)
		if o, _, _ := count(); o == opened {
			t.Error("nothing is read after the thaw")
		}
		h.write(3, "other", "cd", 10, 50)
		hang := make(chan struct{})
		h.mu.Lock()
		h.hang = hang
		h.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if got := w.Groups(); got[1].Err == nil || got[1].Free != 200<<20 {
			t.Errorf("of a group whose disks hang: %+v", got)
		}
		opened, _, _ = count()
		time.Sleep(10 * time.Minute)
		if o, _, _ := count(); o > opened {
			t.Errorf("disks that hang were opened %d times", o-opened)
		}
		h.mu.Lock()
		h.hang = nil
		h.mu.Unlock()
		close(hang)
		time.Sleep(2 * time.Minute)
		if got := w.Groups(); got[0].Err != nil || got[1].Err != nil || got[0].Free != 200<<20 {
			t.Errorf("after that: %+v", got)
		}
	})
}
