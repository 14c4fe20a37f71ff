package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
)

var forUse = api.UseRequest{Request: api.Request{Policy: "p"}}

// A set that is taken for a use takes no place in its policy's retention, and retention leaves it alone.
func TestUseBesideRetention(t *testing.T) {
	w := newWorld(t)
	w.policy.Retention = config.Retention{Last: 1, Minimum: 1}
	d := w.daemon()
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.use(t.Context(), d, forUse, func(id string, release chan<- bool) {
		got, err := d.PrunePolicy(t.Context(), "p", false)
		if want := "keep (it was taken for a use, and is deleted after it, it is mounted); keep (last)"; err != nil || verdicts(got) != want {
			t.Errorf("%s, %v", verdicts(got), err)
		}
		release <- true
	})
	if s := ofPolicy(d); err != nil || len(s) != 1 || s[0].ID != m.ID {
		t.Errorf("%v; left are %+v", err, s)
	}
	kept := forUse
	kept.Keep = true
	if _, err := w.use(t.Context(), d, kept, func(_ string, release chan<- bool) { release <- true }); err != nil {
		t.Fatal(err)
	}
	if got, err := d.PrunePolicy(t.Context(), "p", false); err != nil || verdicts(got) != "keep (last); deleted (no rule keeps it)" {
		t.Errorf("kept: %s, %v", verdicts(got), err)
	}
}

// Two sets are never mounted in one tree, and none is taken for nothing.
func TestUseTwice(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	_, err := w.use(t.Context(), d, forUse, func(id string, release chan<- bool) {
		before := len(w.mounted)
		for name, target := range map[string]string{"the same place": "", "above it": w.dir} {
			r := forUse
			r.Mount.Target = target
			if _, err := w.use(t.Context(), d, r, func(_ string, release chan<- bool) { t.Error("it is used twice"); release <- true }); api.Of(err) != api.Busy {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := d.MountSet(t.Context(), oldSet, api.MountOptions{Target: filepath.Join(w.dir, "exec", "p") + "/."}); api.Of(err) != api.Busy {
			t.Errorf("mounted there: %v", err)
		}
		if s := ofPolicy(d); len(w.mounted) != before || len(s) != 1 || s[0].ID != id {
			t.Errorf("mounted are %+v, sets %+v", w.mounted, s)
		}
		release <- true
	})
	if err != nil || len(w.mounted) > 0 || len(ofPolicy(d)) > 0 {
		t.Errorf("%v; left are %+v, mounted %+v", err, ofPolicy(d), w.mounted)
	}
}

// busy lets unmounting fail until it is over.
func (w *world) busy(over *atomic.Bool) {
	w.tap = func(call string, after bool) error {
		if strings.HasPrefix(call, "unmount#") && !after && !over.Load() {
			return unix.EBUSY
		}
		return nil
	}
}

// What has a set open for longer than its requester waits keeps it no longer than that.
func TestUseLeft(t *testing.T) {
	for name, keep := range map[string]bool{"taken for it": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := w.daemon()
				stop := started(t, d)
				var over atomic.Bool
				w.busy(&over)
				ctx, cancel := context.WithCancel(t.Context())
				r := forUse
				r.Keep = keep
				_, err := w.use(ctx, d, r, func(string, chan<- bool) { cancel() })
				if err == nil || len(ofPolicy(d)) != 1 || d.problemsWith("is not put away") != 1 || !d.Busy() {
					t.Errorf("%v; problems %q", err, d.Problems())
				}
				if _, err := w.use(t.Context(), d, forUse, func(_ string, release chan<- bool) { t.Error("it is used"); release <- true }); api.Of(err) != api.Busy {
					t.Errorf("another use: %v", err)
				}
				time.Sleep(time.Hour)
				if len(ofPolicy(d)) != 1 || len(w.mounted) == 0 {
					t.Error("it is put away while it is busy")
				}
				over.Store(true)
				time.Sleep(usedRest + time.Second)
				if s := ofPolicy(d); len(w.mounted) > 0 || (len(s) == 1) != keep || d.problemsWith("is not put away") > 0 || d.Busy() {
					t.Errorf("left are %+v, mounted %+v, problems %q", s, w.mounted, d.Problems())
				}
				stop()
			})
		})
	}
}

// A daemon that is started anew puts away what was mounted for somebody who is gone, and leaves what is used to who uses it.
func TestUseOfAnEarlierDaemon(t *testing.T) {
	const pid = 4711
	lent := func(t *testing.T, r api.UseRequest) *world {
		w := newWorld(t)
		w.processes = map[int]uint64{pid: 100}
		d := w.daemon()
		release := make(chan bool, 1)
		var moment *world
		u := api.Use{Process: pid, Release: release, Mounted: func(string) { moment = w.after(); release <- true }}
		if _, err := d.UseSet(t.Context(), r, u, unheard); err != nil {
			t.Fatal(err)
		}
		return moment
	}
	kept := forUse
	kept.Keep = true
	for _, test := range []struct {
		name    string
		request api.UseRequest
		befalls func(w *world)
		stays   bool // until the process has ended
		sets    int
	}{
		{name: "its process lives", request: forUse, befalls: func(*world) {}, stays: true},
		{name: "its process lives, and the set is kept", request: kept, befalls: func(*world) {}, stays: true, sets: 1},
		{name: "its process is gone", request: forUse, befalls: func(w *world) { delete(w.processes, pid) }},
		{name: "its process is gone, and the set is kept", request: kept, befalls: func(w *world) { delete(w.processes, pid) }, sets: 1},
		{name: "another has its number", request: forUse, befalls: func(w *world) { w.processes[pid] = 200 }},
		{name: "the power fails", request: forUse, befalls: func(w *world) {
			w.mounted, w.processes = nil, nil
			if err := os.RemoveAll(filepath.Join(w.dir, "mounts")); err != nil {
				w.t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := lent(t, test.request)
				test.befalls(w)
				d := w.daemon()
				stop := started(t, d)
				time.Sleep(usedPatience / 2)
				if test.stays {
					if len(ofPolicy(d)) != 1 || len(w.mounted) == 0 || len(d.Problems()) > 0 {
						t.Errorf("sets %+v, mounted %+v, problems %q", ofPolicy(d), w.mounted, d.Problems())
					}
					w.mu.Lock()
					delete(w.processes, pid)
					w.mu.Unlock()
					time.Sleep(usedRest + time.Second)
				}
				if s := ofPolicy(d); len(w.mounted) > 0 || len(s) != test.sets || len(d.Problems()) > 0 || d.Busy() {
					t.Errorf("left are %+v, mounted %+v, problems %q", s, w.mounted, d.Problems())
				}
				for _, s := range ofPolicy(d) {
					if s.Reported == nil || s.Reported.Outcome != api.BackupFailed {
						t.Errorf("reported: %+v", s.Reported)
					}
				}
				stop()
			})
		})
	}
}

// Who pins a set while it is used has it as one of its policy's.
func TestPinWhileUsed(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	_, err := w.use(t.Context(), d, forUse, func(id string, release chan<- bool) {
		if err := d.PinSet(t.Context(), id, "anna"); err != nil {
			t.Error(err)
		}
		release <- true
	})
	s := ofPolicy(d)
	if err != nil || len(s) != 1 || s[0].Passing {
		t.Fatalf("%v; left are %+v", err, s)
	}
	next := w.after().daemon()
	stop := started(t, next)
	stop()
	if s := ofPolicy(next); len(s) != 1 || len(s[0].Mounts) > 0 {
		t.Errorf("after a restart: %+v", s)
	}
}
