package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/fsfreeze"
)

// short is a time limit that a well-behaved plug-in keeps even on a busy machine.
const short = time.Second

// faults are the ways in which a plug-in can answer badly, and what is said of each.
var faults = []struct {
	name, want string
	act        func(c net.Conn, answer func() []byte) []byte
}{
	{"fails", "no luck", func(net.Conn, func() []byte) []byte { return nil }}, // see misbehave
	{"hangs", "no answer within", func(c net.Conn, _ func() []byte) []byte { c.Read(make([]byte, 1)); return nil }},
	{"is late", "no answer within", func(c net.Conn, answer func() []byte) []byte {
		time.Sleep(short + 200*time.Millisecond)
		return answer()
	}},
	{"dies", "it closed its pipes", func(c net.Conn, _ func() []byte) []byte { c.Close(); return nil }},
	{"garbles", "no JSON object", func(net.Conn, func() []byte) []byte { return []byte("}{ \x1b[31m\n") }},
	{"is not UTF-8", "not UTF-8", func(net.Conn, func() []byte) []byte { return []byte("\xff\xfe\n") }},
	{"repeats an old answer", "too late to be believed", func(_ net.Conn, answer func() []byte) []byte {
		answer()
		return []byte(`{"fermata":1,"id":999999,"result":{}}` + "\n")
	}},
	{"says more", "without being asked", func(_ net.Conn, answer func() []byte) []byte {
		return append(answer(), `{"fermata":1,"id":1,"result":{}}`+"\n"...)
	}},
	{"stops in mid-line", "in the middle of a line", func(c net.Conn, answer func() []byte) []byte {
		c.Write(answer()[:10])
		c.Close()
		return nil
	}},
	{"speaks another version", "version 2", func(net.Conn, func() []byte) []byte {
		return []byte(`{"fermata":2,"id":1,"result":{}}` + "\n")
	}},
}

// misbehave makes one method answer badly, as often as it is asked or once only.
func (h *host) misbehave(m protocol.Method, act func(net.Conn, func() []byte) []byte, fails, once bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := false
	h.around = func(c net.Conn, q protocol.Request, answer func() []byte) []byte {
		h.mu.Lock()
		mine := q.Method == m && !(once && done)
		done = done || mine
		h.mu.Unlock()
		switch {
		case !mine:
			return answer()
		case fails:
			line, _ := protocol.Line(protocol.Answer{Fermata: 1, ID: q.ID, Error: &protocol.Error{Code: protocol.Failed, Message: "no luck"}})
			return line
		}
		return act(c, answer)
	}
}

// life is what a transaction does with a provider, through to the deletion of the set.
func life(p provider.Provider, vol provider.Volume) (err error) {
	ctx := context.Background()
	c, err := p.Claim(vol)
	if err != nil {
		return err
	}
	vol.Name = c.Name
	vols := []provider.Volume{vol}
	if err := p.Admit(ctx, vols); err != nil {
		return err
	}
	part, err := p.Prepare(ctx, provider.Set{ID: "20261120T000000_0001", Policy: "nightly", Members: 1}, vols)
	undo := func(err error) error {
		err = errors.Join(err, part.PostCommit())
		part.Watch(nil)
		return errors.Join(err, part.Unlock(), part.Abort(ctx))
	}
	if err != nil {
		return undo(err)
	}
	if err := part.Lock(ctx); err != nil {
		return undo(err)
	}
	var holds []provider.Hold
	for range part.Origins() {
		holds = append(holds, new(fsfreeze.Cell))
	}
	part.Watch(holds)
	part.(provider.Limiter).Limit(10 * time.Second)
	for _, step := range []func() error{part.PreCommit, part.Commit, part.PostCommit} {
		if err := step(); err != nil {
			return undo(err)
		}
	}
	part.Watch(nil)
	if err := errors.Join(part.Unlock(), part.Verify()); err != nil {
		return undo(err)
	}
	snaps, err := part.Finalize(ctx, provider.Final{Consistency: "filesystem", Created: 1})
	if err != nil {
		return undo(err)
	}
	if _, err := p.Expose(ctx, snaps[0]); err != nil {
		return err
	}
	if _, err := p.(provider.Copier).Copy(ctx, snaps[0]); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return p.Hide(ctx, snaps[:1]) },
		func() error { _, err := p.Snapshots(ctx); return err },
		func() error { return p.Mark(ctx, snaps) },
		func() error { return p.Delete(ctx, snaps) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Every misbehaviour at every phase: the error names plug-in and phase, the volume is not suspended, the lock is free, no
// process and no goroutine stays, and before the set is finished nothing of it stays either.
func TestFaults(t *testing.T) {
	before := population(t)
	finished := map[protocol.Method]bool{
		protocol.Expose: true, protocol.Copy: true, protocol.Hide: true, protocol.Snapshots: true, protocol.Mark: true, protocol.Delete: true,
	}
	t.Run("all", func(t *testing.T) {
		for _, f := range faults {
			for _, m := range protocol.Methods {
				if m == protocol.Usage || m == protocol.Resize || m == protocol.Pools || m == protocol.Abort {
					continue // not of this plug-in's capabilities; abort has its own test
				}
				t.Run(f.name+" at "+string(m), func(t *testing.T) {
					t.Parallel()
					s, vol := storage()
					h := newHost(t, s)
					h.spec.Limits = Limits{DefaultLimits.Start, short, short, short} // a busy machine starts a process slowly
					if m == protocol.Hello && (f.want == "no answer within" || f.want == "too late to be believed") {
						h.spec.Limits.Start = short
					}
					h.misbehave(m, f.act, f.name == "fails", false)
					p, err := Start(t.Context(), h.spec, h.options)
					if err == nil {
						err = errors.Join(life(p, vol), p.(interface{ Close() error }).Close())
					}
					if m == protocol.Claim && f.name == "fails" {
						if err == nil || err.Error() != "no luck" { // its own word why not
							t.Errorf("got %v", err)
						}
						return
					}
					if err == nil || !strings.Contains(err.Error(), "plug-in fake failed at "+string(m)+": ") || !strings.Contains(err.Error(), f.want) {
						t.Errorf("got %v, want that the plug-in failed at %s: %s", err, m, f.want)
					}
					if finished[m] || m == protocol.Hello || m == protocol.Claim || f.name == "fails" { // its own words
					} else if !strings.Contains(err.Error(), "timeouts, in its file") && !strings.Contains(err.Error(), "--provider VOLUME=NAME") {
						t.Errorf("no remedy: %v", err)
					}
					if strings.ContainsAny(fmt.Sprint(err), "\x1b\x00") {
						t.Errorf("unreadable: %q", err)
					}
					if x := s.Suspended(); len(x) > 0 {
						t.Errorf("suspended: %v", x)
					}
					if x := s.Snapshots(); len(x) > 0 && !finished[m] {
						t.Errorf("left: %+v", x)
					}
					for end := time.Now().Add(5 * time.Second); s.Locked(); time.Sleep(10 * time.Millisecond) {
						if time.Now().After(end) {
							t.Fatal("the lock is still held")
						}
					}
				})
			}
		}
	})
	settle(t, before)
}

// An abort that fails is tried in another process; if that fails too it is told, and what is armed stays listed.
func TestAbort(t *testing.T) {
	before := population(t)
	t.Run("all", func(t *testing.T) { aborts(t) })
	settle(t, before)
}

func aborts(t *testing.T) {
	for _, f := range faults {
		for _, once := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, once: %v", f.name, once), func(t *testing.T) {
				t.Parallel()
				s, vol := storage()
				h := newHost(t, s)
				h.spec.Limits = Limits{DefaultLimits.Start, short, short, short}
				h.misbehave(protocol.Abort, f.act, f.name == "fails", once)
				p := h.provider(t)
				part, err := p.Prepare(t.Context(), provider.Set{ID: "x", Members: 1}, []provider.Volume{vol})
				if err != nil {
					t.Fatal(err)
				}
				err = part.Abort(t.Context())
				switch left := len(s.Snapshots()); {
				case once && (err != nil || left != 0):
					t.Errorf("%v, and %d snapshots", err, left)
				case !once && (err == nil || !strings.Contains(err.Error(), "cannot remove the armed snapshots: plug-in fake failed at abort: ")):
					t.Errorf("got %v", err)
				}
				h.mu.Lock()
				h.around = nil
				h.mu.Unlock()
				if err := part.Abort(t.Context()); err != nil || len(s.Snapshots()) != 0 {
					t.Errorf("at last: %v, %v", err, s.Snapshots())
				}
			})
		}
	}
}

// What a plug-in says between two requests is nobody's answer.
func TestChatter(t *testing.T) {
	s, vol := storage()
	h := newHost(t, s)
	conns := make(chan net.Conn, 10)
	h.mu.Lock()
	h.around = func(c net.Conn, q protocol.Request, answer func() []byte) []byte {
		if q.Method == protocol.Prepare {
			conns <- c
		}
		return answer()
	}
	h.mu.Unlock()
	p := h.provider(t)
	part, err := p.Prepare(t.Context(), provider.Set{ID: "x", Members: 1}, []provider.Volume{vol})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(<-conns, `{"fermata":1,"id":3,"result":{}}`) // lock will be the third request
	time.Sleep(200 * time.Millisecond)
	if err := part.Lock(t.Context()); err == nil || !strings.Contains(err.Error(), "failed at lock") || !strings.Contains(err.Error(), "without being asked") {
		t.Errorf("Lock: %v", err)
	}
	if err := part.Abort(t.Context()); err != nil {
		t.Error(err)
	}
}

// The window's own limit is shorter than the plug-in's, and is kept.
func TestWindowLimit(t *testing.T) {
	s, vol := storage()
	h := newHost(t, s)
	h.misbehave(protocol.Commit, faults[1].act, false, false)
	p := h.provider(t)
	part, err := p.Prepare(t.Context(), provider.Set{ID: "x", Members: 1}, []provider.Volume{vol})
	if err != nil {
		t.Fatal(err)
	}
	if err := part.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	part.Watch([]provider.Hold{new(fsfreeze.Cell)})
	part.(provider.Limiter).Limit(400 * time.Millisecond)
	if err := part.PreCommit(); err != nil {
		t.Fatal(err)
	}
	if err := part.Commit(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Commit: %v", err)
	}
	if err := errors.Join(part.PostCommit(), part.Unlock(), part.Abort(t.Context())); err != nil {
		t.Error(err)
	}
	if x := s.Suspended(); len(x) > 0 {
		t.Errorf("suspended: %v", x)
	}
}

// A caller that gives up is not kept waiting.
func TestCancel(t *testing.T) {
	s, _ := storage()
	h := newHost(t, s)
	h.misbehave(protocol.Snapshots, faults[1].act, false, false)
	p := h.provider(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := p.Snapshots(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func storage() (*providertest.Storage, provider.Volume) {
	s := providertest.NewStorage()
	v := provider.Volume{Dev: dm.MkDev(253, 1), Device: "one", Name: "vg/one", Size: 1 << 20, MountPoint: "/srv", FSType: "ext4"}
	s.Add(v)
	return s, v
}

type crowd struct{ processes, goroutines, descriptors int }

// population counts what could be left behind.
func population(t *testing.T) (c crowd) {
	c.goroutines = runtime.NumGoroutine()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	c.descriptors = len(fds)
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tasks {
		if b, err := os.ReadFile(path); err == nil {
			c.processes += len(strings.Fields(string(b)))
		}
	}
	return c
}

// settle fails the test unless everything goes that was not there before.
func settle(t *testing.T, before crowd) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c := population(t)
		if c.processes <= before.processes && c.goroutines <= before.goroutines && c.descriptors <= before.descriptors+2 { // the runtime's own poller
			return
		}
		if time.Now().After(end) {
			t.Errorf("left %+v, before %+v", c, before)
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			return
		}
	}
}

// The error of a plug-in that died tells how it ended, and what it said last.
func TestLastWords(t *testing.T) {
	s, _ := storage()
	h := newHost(t, s)
	h.misbehave(protocol.Snapshots, func(c net.Conn, _ func() []byte) []byte { c.Close(); return nil }, false, false)
	_, err := h.provider(t).Snapshots(t.Context())
	if want := "plug-in fake failed at snapshots: it closed its pipes (exit status 3; it said: relaying)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
