package daemon

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/writers"
	"github.com/fermata-project/fermata/hooks"
)

// failing makes a call on the world fail.
func (w *world) failing(call string) {
	w.tap = func(c string, after bool) error {
		if !after && strings.HasPrefix(c, call+"#") {
			return errors.New("told to fail")
		}
		return nil
	}
}

// A test takes one writer through the phases of a set, and touches nothing else.
func TestTestWriter(t *testing.T) {
	const ok, failed = "released", "failed"
	all := []hooks.Phase{"prepare", "freeze", "thaw", "post"}
	for _, test := range []struct {
		name        string
		change      func(*world)
		policy      string
		state       string
		told        []hooks.Phase
		consistency api.Consistency
		class       api.Class
		text        string
	}{
		{"well", func(*world) {}, "", ok, all, api.Application, "", ""},
		{"well, by policy", func(*world) {}, "p", ok, all, api.Application, "", ""},
		{"cannot prepare", func(w *world) { w.failing("writer-prepare db") }, "", failed, []hooks.Phase{"prepare", "abort"}, "", api.Failed, "cannot prepare writer db: told to fail"},
		{"cannot freeze", func(w *world) { w.failing("writer-freeze db") }, "", failed, []hooks.Phase{"prepare", "freeze", "thaw", "abort"}, "", api.Failed, "cannot freeze writer db"},
		{"cannot freeze, and the set can do without", func(w *world) { w.failing("writer-freeze db"); w.degrades("db") }, "", failed,
			[]hooks.Phase{"prepare", "freeze", "thaw", "abort"}, api.Filesystem, "", "writer db: cannot freeze writer db"},
		{"cannot be told the outcome", func(w *world) { w.failing("writer-post db") }, "", ok, all, api.Application, "", "after the set was finished: cannot post writer db: told to fail"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			test.change(w)
			d := w.daemon()
			r, err := d.TestWriter(t.Context(), api.WriterTestRequest{Writer: "db", Policy: test.policy}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.told("db"); !slices.Equal(got, test.told) || w.told("web") != nil {
				t.Errorf("db was told %v, web %v", got, w.told("web"))
			}
			if r.Writer.State != test.state || r.Consistency != test.consistency || r.Class != test.class {
				t.Errorf("got %+v", r)
			}
			if text := r.Error + strings.Join(r.Reasons, ""); !strings.Contains(text, test.text) || test.text == "" && text != "" {
				t.Errorf("a set would be told %q, want %q", text, test.text)
			}
			for _, ev := range w.writers["db"].events {
				if !ev.DryRun || len(ev.Volumes) == 0 || ev.Policy != test.policy {
					t.Errorf("it was told %+v", ev)
				}
			}
			if len(w.snapshots()) > 0 {
				t.Error("a snapshot was made")
			}
			w.clean(t, d)

			past := listed(d, "db")
			if past.Last == nil || !past.Last.Test || past.Last.State != test.state || len(past.Last.Phases) == 0 || (past.Last.Error != "") != (test.text != "") {
				t.Errorf("the list says %+v", past.Last)
			}
		})
	}
}

// degrades makes a writer one that a set can do without.
func (w *world) degrades(name string) {
	for i := range w.writing {
		if w.writing[i].Name == name {
			w.writing[i].Required, w.writing[i].OnFailure = false, config.OnFailureDegrade
		}
	}
}

func listed(d *Daemon, name string) api.Writer {
	for _, w := range d.Writers() {
		if w.Name == name {
			return w
		}
	}
	return api.Writer{}
}

// A writer that lets go between freeze and thaw is caught in a test as it is in a set.
func TestTestWriterThatLies(t *testing.T) {
	w := newWorld(t)
	w.tap = func(c string, after bool) error {
		if after && strings.HasPrefix(c, "writer-freeze db#") {
			w.writers["db"].lost.Store(true)
		}
		return nil
	}
	r, err := w.daemon().TestWriter(t.Context(), api.WriterTestRequest{Writer: "db"}, nil)
	if err != nil || r.Class != api.Broken || !strings.Contains(r.Error, "a writer let go before the capture") {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestTestWriterTakesTurns(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	release, err := d.turn.take(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := d.TestWriter(t.Context(), api.WriterTestRequest{Writer: "db", FailIfBusy: true}, nil); api.Of(err) != api.Busy {
		t.Errorf("while a set is taken: %v", err)
	}
	if _, err := d.TestWriter(t.Context(), api.WriterTestRequest{Writer: "nosuch"}, nil); api.Of(err) != api.NotFound {
		t.Errorf("an unknown writer: %v", err)
	}
	if _, err := d.TestWriter(t.Context(), api.WriterTestRequest{Writer: "db", Policy: "nosuch"}, nil); api.Of(err) != api.Invalid {
		t.Errorf("an unknown policy: %v", err)
	}
}

// The list remembers the last set and the last failure.
func TestWritersRemember(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	if x := listed(d, "db"); x.Last != nil || x.LastFailure != nil {
		t.Errorf("before anything: %+v", x)
	}
	w.failing("writer-freeze db")
	if _, err := w.take(t.Context(), d); err == nil {
		t.Fatal("a set was taken")
	}
	w.tap = nil
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	x := listed(d, "db")
	if x.Last == nil || x.Last.Set != m.ID || x.Last.Error != "" || x.Last.Test || x.LastFailure == nil || !strings.Contains(x.LastFailure.Error, "cannot freeze writer db") {
		t.Errorf("last %+v, failed %+v", x.Last, x.LastFailure)
	}
	var phases []string
	for _, p := range x.Last.Phases {
		phases = append(phases, p.Name)
	}
	if got := strings.Join(phases, " "); !strings.HasPrefix(got, "prepare freeze hold thaw ") || !strings.HasSuffix(got, " post") {
		t.Errorf("phases %v", phases)
	}
}

// A writer that only a service has declared can be named by a request, not by a policy's file; components of a declared one
// come from the service.
func TestRegisteredWriters(t *testing.T) {
	w := newWorld(t)
	w.writing = append(w.writing, config.Writer{Name: "stock", Type: config.WriterDBus, Level: config.LevelBackEnd, Required: true})
	d := w.daemon()
	d.o.Registry = writers.New(d.o.Config)
	if x := listed(d, "stock"); x.Problem != "no service has registered it" {
		t.Errorf("not registered: %+v", x)
	}
	files := []config.Component{{Name: "shelf", Paths: []string{"/srv/shelf"}, LogFiles: []string{"/srv/log"}}}
	for _, name := range []string{"stock", "new"} {
		c := config.Writer{Name: name, Type: config.WriterDBus, Level: config.LevelBackEnd, Required: true, OnFailure: config.OnFailureAbort, Components: files,
			Timeouts: config.Timeouts{}}
		if err := d.o.Registry.Register(writers.Entry{Owner: ":1.7", Writer: c, Remote: &absent{}}); err != nil {
			t.Fatal(err)
		}
		x := listed(d, name)
		if x.Registered != ":1.7" || x.Problem != "" || len(x.Components) != 1 || x.Components[0].LogFiles[0] != "/srv/log" {
			t.Errorf("%s: %+v", name, x)
		}
	}
	m, err := d.CreateSet(t.Context(), api.Request{Volumes: w.policy.Volumes, Writers: []string{"new"}, Consistency: api.Crash}, nil)
	if err != nil || len(m.Writers) != 1 || m.Writers[0].Components[0].Name != "shelf" || m.Writers[0].State != "released" {
		t.Errorf("got %+v, %v", m, err)
	}
}

// absent is a service that is only listed.
type absent struct{ hooks.Remote }

func (*absent) Gone() error { return nil }
