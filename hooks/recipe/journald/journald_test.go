package journald

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// fake is a journald that answers what its table says, by default yes, and
// nothing where the table says so.
type fake struct {
	root    string
	answers map[string]string
	seen    chan string
	conns   chan net.Conn
}

func start(t *testing.T, o Options, answers map[string]string) *fake {
	t.Helper()
	f := &fake{root: t.TempDir(), answers: answers, seen: make(chan string, 20), conns: make(chan net.Conn, 5)}
	o.root = f.root
	for _, folder := range []string{filepath.Dir(o.socket()), f.root + "/etc", f.root + "/var/log/journal/7", f.root + "/var/log/journal/7.app", f.root + "/var/log/journal/7.none"} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(f.root+"/etc/machine-id", []byte("7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", o.socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.conns <- c
			go f.serve(c)
		}
	}()
	return f
}

func (f *fake) serve(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		call, err := r.ReadString(0)
		if err != nil {
			return
		}
		f.seen <- call
		answer, ok := f.answers[call]
		if !ok {
			answer = "{\"parameters\":{}}\x00"
		}
		_, _ = c.Write([]byte(answer))
	}
}

func (f *fake) writer(t *testing.T, o Options) *writer {
	t.Helper()
	o.root = f.root
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r.(*writer)
}

func (f *fake) set() hooks.Request {
	return hooks.Request{Timeout: time.Minute, Event: hooks.Event{Volumes: []string{f.root}}}
}

const (
	synchronize = "{\"method\":\"io.systemd.Journal.Synchronize\"}\x00"
	rotate      = "{\"method\":\"io.systemd.Journal.Rotate\"}\x00"
	getInfo     = "{\"method\":\"org.varlink.service.GetInfo\"}\x00"
)

func TestPhases(t *testing.T) {
	for _, test := range []struct {
		options Options
		calls   []string
	}{
		{Options{}, []string{synchronize, getInfo}},
		{Options{Rotate: true, Namespace: "app"}, []string{rotate, synchronize, getInfo}},
	} {
		f := start(t, test.options, map[string]string{getInfo: "{\"error\":\"org.varlink.service.MethodNotImplemented\"}\x00"})
		w := f.writer(t, test.options)
		data, err := w.Prepare(t.Context(), f.set())
		if err != nil || data["rotated"] != test.options.Rotate || data["holds"] != "nothing" {
			t.Fatalf("Prepare() = %v, %v", data, err)
		}
		if _, err := w.Freeze(t.Context(), f.set()); err != nil {
			t.Error(err)
		}
		if _, err := w.Thaw(t.Context(), f.set()); err != nil {
			t.Error(err)
		}
		var calls []string
		for range test.calls {
			calls = append(calls, <-f.seen)
		}
		if !reflect.DeepEqual(calls, test.calls) {
			t.Errorf("called %q", calls)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct{ answer, want string }{
		"refused":    {"{\"error\":\"io.systemd.Journal.NotSupportedByNamespaces\"}\x00", "journald refuses: io.systemd.Journal.NotSupportedByNamespaces"},
		"no varlink": {"what?\x00", "is no varlink"},
		"silent":     {"", "i/o timeout"},
		"endless":    {strings.Repeat("x", maxReply+1), "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, Options{}, map[string]string{synchronize: test.answer})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if _, err := f.writer(t, Options{}).Prepare(ctx, f.set()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Prepare() = %v, want %q", err, test.want)
			}
		})
	}
	f := start(t, Options{}, nil)
	elsewhere := f.set()
	elsewhere.Volumes = []string{"/proc"}
	if _, err := f.writer(t, Options{}).Prepare(t.Context(), elsewhere); !errors.Is(err, recipe.ErrOutside) {
		t.Errorf("outside the set: %v", err)
	}
	if _, err := f.writer(t, Options{Namespace: "none"}).Prepare(t.Context(), f.set()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such namespace: %v", err)
	}
	if err := os.Remove(f.root + "/var/log/journal/7"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.writer(t, Options{}).Prepare(t.Context(), f.set()); !recipe.IsInactive(err) {
		t.Errorf("a journal in memory: %v", err)
	}
	if _, err := New(Options{Namespace: "../x"}); err == nil {
		t.Error("a namespace with a slash was accepted")
	}
}

// A journald that was started anew is not the one that was prepared.
func TestLost(t *testing.T) {
	f := start(t, Options{}, nil)
	w := f.writer(t, Options{})
	if _, err := w.Freeze(t.Context(), f.set()); err == nil {
		t.Error("frozen without having been prepared")
	}
	if _, err := w.Thaw(t.Context(), f.set()); err != nil {
		t.Errorf("the thaw of what was not frozen: %v", err)
	}
	if _, err := w.Prepare(t.Context(), f.set()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Freeze(t.Context(), f.set()); err != nil {
		t.Fatal(err)
	}
	_ = (<-f.conns).Close()
	if _, err := w.Thaw(t.Context(), f.set()); !errors.Is(err, hooks.ErrHoldLost) {
		t.Errorf("Thaw() = %v", err)
	}
}
