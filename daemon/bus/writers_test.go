package bus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
	"github.com/fermata-project/fermata/daemon/writers"
	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/dbuswriter"
)

// registering is a fixture whose server takes registrations.
type registering struct {
	*fixture
	registry *writers.Registry
}

func startRegistering(t *testing.T, auth func(*dbus.Conn) bus.Authorizer, declared map[string]config.Writer) registering {
	t.Helper()
	r := registering{&fixture{T: t, address: bustest.Daemon(t), fake: &bustest.Fake{}}, writers.New(&config.Config{Writers: declared})}
	r.server = bus.New(r.fake, auth, bustest.Log(t))
	r.server.Writers = r.registry
	r.stop = bustest.Serve(t, r.address, r.server)
	r.conn = r.dial()
	return r
}

// app is a service that can hold still.
type app struct {
	mu     sync.Mutex
	did    []string
	events map[string]dbuswriter.Event
	frozen bool
}

func (a *app) do(phase string, change func()) dbuswriter.Func {
	return func(_ context.Context, e dbuswriter.Event) (map[string]any, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.did = append(a.did, phase)
		if a.events == nil {
			a.events = map[string]dbuswriter.Event{}
		}
		a.events[phase] = e
		change()
		return map[string]any{"phase": phase, "n": 7, "names": []string{"x", "y"}}, nil
	}
}

func (a *app) writer(name string) *dbuswriter.Writer {
	none := func() {}
	return &dbuswriter.Writer{Name: name, Prepare: a.do("prepare", none), Abort: a.do("abort", none), Post: a.do("post", none),
		Freeze: a.do("freeze", func() { a.frozen = true }), Thaw: a.do("thaw", func() { a.frozen = false })}
}

func (a *app) free() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.frozen
}

func (a *app) phases() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.did, " ")
}

// serve runs a writer; the returned function ends it and gives its error.
func (r registering) serve(w *dbuswriter.Writer, conn *dbus.Conn) (stop func() error) {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx, conn) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	r.Cleanup(func() { _ = stop() })
	return stop
}

func (r registering) eventually(what string, is func() bool) {
	r.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("%s: not within 10 s", what)
		}
	}
}

// await waits until a service has registered, and makes its writer as a set would.
func (r registering) await(name string) hooks.Writer {
	r.Helper()
	r.eventually("registration of "+name, func() bool { _, ok := r.registry.Lookup(name); return ok })
	e, _ := r.registry.Lookup(name)
	w, err := r.registry.NewWriter(e.Writer)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { w.Close() })
	return w
}

// The whole life of a writer, with the package that services use.
func TestWriterOnTheBus(t *testing.T) {
	r := startRegistering(t, bustest.Anybody, nil)
	a := &app{}
	service := a.writer("stock")
	service.Level, service.Timeouts.Freeze = "front-end", 3*time.Second
	service.Report = a.do("report", func() {})
	service.Components = []dbuswriter.Component{{Name: "shelf", Paths: []string{"/srv/stock"}, LogFiles: []string{"/srv/stock/log"}, RestoreMethod: "copy back"}}
	stop := r.serve(service, r.dial())
	w := r.await("stock")
	if s := w.Spec(); s.Level != hooks.LevelFrontEnd || s.Timeouts.Freeze != 3*time.Second || s.Timeouts.Prepare != hooks.DefaultTimeouts.Prepare ||
		!s.Required || fmt.Sprint(s.Components) != "[{shelf [/srv/stock] [] [/srv/stock/log] copy back}]" {
		t.Errorf("its declaration: %+v", s)
	}
	if !r.server.Busy() {
		t.Error("a daemon with a registered writer may exit for idleness")
	}
	g := hooks.NewGroup([]hooks.Writer{w}, hooks.Event{Set: "s1", Policy: "p", DryRun: true, Volumes: []string{"/srv"}}, 0)
	ctx := t.Context()
	if err := errors.Join(g.Prepare(ctx), g.Freeze(ctx), g.Holding()); err != nil {
		t.Fatal(err)
	}
	if a.free() {
		t.Error("it does not hold")
	}
	if err := errors.Join(g.Thaw(ctx, hooks.OutcomeOK), g.Post(ctx, hooks.OutcomeOK), g.Close()); err != nil {
		t.Fatal(err)
	}
	if got := a.phases(); got != "prepare freeze thaw post" || !a.free() {
		t.Errorf("it did %q", got)
	}
	if !w.Spec().Takes(hooks.PhaseReport) || w.Spec().Takes(hooks.PhaseVerify) {
		t.Errorf("it takes %+v", w.Spec())
	}
	if said := hooks.Ask(ctx, r.await("stock"), hooks.PhaseReport, hooks.Event{Set: "s1", Volumes: []string{"/srv"}, Outcome: hooks.OutcomeFailed}); said.Err != nil {
		t.Error(said.Err)
	}
	a.mu.Lock()
	if e := a.events["report"]; e.Set != "s1" || e.Outcome != "failed" || fmt.Sprint(e.Volumes) != "[/srv]" {
		t.Errorf("it was told %+v", e)
	}
	e := a.events["prepare"]
	if e.Set != "s1" || e.Policy != "p" || !e.DryRun || fmt.Sprint(e.Volumes) != "[/srv]" || e.Timeout != 5*time.Minute || a.events["thaw"].Outcome != "ok" {
		t.Errorf("it was told %+v", a.events)
	}
	a.mu.Unlock()
	if d := g.Results()[0].Answer.Data; fmt.Sprint(d) != "map[n:7 names:[x y] phase:prepare]" {
		t.Errorf("the manifest would have %v", d)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	r.eventually("it is unregistered", func() bool { return len(r.registry.List()) == 0 })
	if r.server.Busy() {
		t.Error("busy without a writer")
	}
}

// A service that stops before it has read that it is registered is unregistered all the same.
func TestWriterStopsAtOnce(t *testing.T) {
	r := startRegistering(t, bustest.Anybody, nil)
	conn := r.dial()
	for range 50 {
		stop := r.serve((&app{}).writer("stock"), conn)
		for _, ok := r.registry.Lookup("stock"); !ok; _, ok = r.registry.Lookup("stock") {
			time.Sleep(10 * time.Microsecond)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if left := r.registry.List(); len(left) > 0 {
			t.Fatal("it is still registered")
		}
	}
}

// Whatever ends the connection of a writer while it holds breaks the hold at once, and the service goes on.
func TestWriterLeavesTheBus(t *testing.T) {
	for name, leave := range map[string]func(registering, *dbus.Conn, func() error){
		"its connection ends":    func(_ registering, c *dbus.Conn, _ func() error) { c.Close() },
		"its service ends":       func(_ registering, _ *dbus.Conn, stop func() error) { _ = stop() },
		"fermatad ends":          func(r registering, _ *dbus.Conn, _ func() error) { r.stop() },
		"the bus ends":           func(r registering, c *dbus.Conn, _ func() error) { _ = r.daemonOf(r.conn).Kill() },
		"it registers once more": func(r registering, c *dbus.Conn, _ func() error) { r.must(r.register(c, "stock", nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := startRegistering(t, bustest.Anybody, nil)
			a, conn := &app{}, r.dial()
			stop := r.serve(a.writer("stock"), conn)
			w := r.await("stock")
			ctx := t.Context()
			for _, call := range []func(context.Context, hooks.Event) (hooks.Answer, error){w.Prepare, w.Freeze} {
				if _, err := call(ctx, hooks.Event{}); err != nil {
					t.Fatal(err)
				}
			}
			leave(r, conn, stop)
			r.eventually("the hold is lost", func() bool { return errors.Is(w.Holding(), hooks.ErrHoldLost) })
			if _, err := w.Thaw(ctx, hooks.Event{}); !errors.Is(err, hooks.ErrHoldLost) {
				t.Errorf("Thaw() = %v", err)
			}
			if name != "it registers once more" { // it is still there, and its hold ends by itself
				r.eventually("the service goes on", a.free)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A service that leaves while it is asked is known to have left at once, in every phase; only in a hold does that cost more
// than the phase.
func TestWriterLeavesWhileAsked(t *testing.T) {
	phases := []string{"prepare", "freeze", "thaw", "abort", "post"}
	for _, at := range phases {
		t.Run(at, func(t *testing.T) {
			r := startRegistering(t, bustest.Anybody, nil)
			a, conn := &app{}, r.dial()
			service := a.writer("stock")
			leave := func(context.Context, dbuswriter.Event) (map[string]any, error) { return nil, conn.Close() }
			for phase, f := range map[string]*dbuswriter.Func{"prepare": &service.Prepare, "freeze": &service.Freeze, "thaw": &service.Thaw, "abort": &service.Abort, "post": &service.Post} {
				if phase == at {
					*f = leave
				}
			}
			r.serve(service, conn)
			w := r.await("stock")
			ask := map[string]func(context.Context, hooks.Event) (hooks.Answer, error){
				"prepare": w.Prepare, "freeze": w.Freeze, "thaw": w.Thaw, "post": w.Post,
				"abort": func(ctx context.Context, ev hooks.Event) (hooks.Answer, error) {
					return hooks.Answer{}, w.Abort(ctx, ev)
				},
			}
			begin := time.Now()
			for _, phase := range phases {
				if phase == "abort" && at != "abort" {
					continue
				}
				_, err := ask[phase](t.Context(), hooks.Event{})
				if phase != at {
					if err != nil {
						t.Fatalf("%s: %v", phase, err)
					}
					continue
				}
				if err == nil || errors.Is(err, hooks.ErrHoldLost) != (at == "thaw") || !strings.Contains(err.Error(), "has left the bus") {
					t.Errorf("%s: %v", phase, err)
				}
				break
			}
			if took := time.Since(begin); took > 5*time.Second { // the shortest time limit is 10 s
				t.Errorf("it was waited for %v", took)
			}
			if err := w.Holding(); err == nil {
				t.Error("it holds")
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			r.eventually("it is forgotten", func() bool { return len(r.registry.List()) == 0 })
		})
	}
}

func (r registering) must(err error) {
	r.Helper()
	if err != nil {
		r.Error(err)
	}
}

func (r registering) register(conn *dbus.Conn, name string, o options) error {
	if o == nil {
		o = options{}
	}
	return call(conn, api.ManagerPath, api.ManagerInterface+".RegisterWriter", name, dbus.ObjectPath("/w"), o).Err
}

func TestRegistration(t *testing.T) {
	me := fmt.Sprint(os.Getuid())
	r := startRegistering(t, nobodyRegisters, map[string]config.Writer{
		"mine":   {Name: "mine", Type: config.WriterDBus, User: me},
		"theirs": {Name: "theirs", Type: config.WriterDBus, User: "4242"},
		"exec":   {Name: "exec", Type: config.WriterExec, File: "/etc/fermata/writers.d/exec.yaml"},
	})
	class := func(err error) string {
		var e dbus.Error
		if errors.As(err, &e) {
			return e.Name[strings.LastIndex(e.Name, ".")+1:]
		}
		return fmt.Sprint(err)
	}
	other := r.dial()
	many := make([]map[string]dbus.Variant, 65)
	v := func(x any) dbus.Variant { return dbus.MakeVariant(x) }
	for _, test := range []struct {
		name    string
		conn    *dbus.Conn
		writer  string
		options options
		want    string
	}{
		{"the user of the declaration", r.conn, "mine", nil, "<nil>"},
		{"once more", r.conn, "mine", nil, "<nil>"},
		{"another one's", other, "mine", nil, "Refused"},
		{"not the user of the declaration", r.conn, "theirs", nil, "Denied"},
		{"not declared", r.conn, "new", nil, "Denied"},
		{"of another type", r.conn, "exec", nil, "Refused"},
		{"a bad name", r.conn, "a b", nil, "Denied"},
		{"a long name", r.conn, strings.Repeat("a", 300), nil, "Invalid"},
		{"unknown option", r.conn, "mine", options{"levle": v("system")}, "Invalid"},
		{"unknown level", r.conn, "mine", options{"level": v("middle")}, "Invalid"},
		{"unknown phase", r.conn, "mine", options{"timeouts_ms": v(map[string]uint64{"hold": 1})}, "Invalid"},
		{"too long", r.conn, "mine", options{"timeouts_ms": v(map[string]uint64{"thaw": 1 << 40})}, "Invalid"},
		{"too many components", r.conn, "mine", options{"components": v(many)}, "Invalid"},
		{"a component of nothing", r.conn, "mine", options{"components": v(many[:1])}, "Invalid"},
		{"a relative path", r.conn, "mine", options{"components": v([]options{{"name": v("x"), "paths": v([]string{"srv"})}})}, "Invalid"},
		{"all there is", r.conn, "mine", options{"level": v("system"), "timeouts_ms": v(map[string]uint64{"freeze": 100}),
			"components": v([]options{{"name": v("x"), "paths": v([]string{"/srv"}), "excludes": v([]string{"*.tmp"})}})}, "<nil>"},
	} {
		if got := class(r.register(test.conn, test.writer, test.options)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if e, ok := r.registry.Lookup("mine"); !ok || e.Writer.Level != config.LevelSystem || e.Owner != r.conn.Names()[0] {
		t.Errorf("registered: %+v", e)
	}
	unregister := func(conn *dbus.Conn) error {
		return call(conn, api.ManagerPath, api.ManagerInterface+".UnregisterWriter", "mine").Err
	}
	if err := unregister(other); class(err) != "NotFound" {
		t.Errorf("somebody else's registration: %v", err)
	}
	if err := unregister(r.conn); err != nil {
		t.Error(err)
	}
	if n := len(r.registry.List()); n != 0 {
		t.Errorf("%d are left", n)
	}
}

func nobodyRegisters(*dbus.Conn) bus.Authorizer { return reader{} }

type reader struct{}

func (reader) Authorize(_ context.Context, _ dbus.Sender, a bus.Action, _ bus.Details) error {
	if a == bus.RegisterWriter {
		return api.Errorf(api.Denied, "no")
	}
	return nil
}

func TestTooManyRegistrations(t *testing.T) {
	r := startRegistering(t, bustest.Anybody, nil)
	for i := range 16 {
		r.must(r.register(r.conn, fmt.Sprint("w", i), nil))
	}
	if err := r.register(r.conn, "w16", nil); !named(err, api.BusName+".Error.Refused") {
		t.Errorf("the 17th of one connection: %v", err)
	}
	for range 15 {
		conn := r.dial()
		for i := range 16 {
			r.must(r.register(conn, fmt.Sprintf("x%d-%s", i, conn.Names()[0][3:]), nil))
		}
	}
	if err := r.register(r.dial(), "last", nil); !named(err, api.BusName+".Error.Refused") {
		t.Errorf("the 257th: %v", err)
	}
	r.conn.Close()
	r.eventually("those of the lost connection are gone", func() bool { return len(r.registry.List()) == 240 })
}

// A test of a writer is a job; what the writer did wrong is its result.
func TestWriterTest(t *testing.T) {
	f := start(t, bustest.Anybody)
	o := options{"policy": dbus.MakeVariant("db")}
	outcome, text, result := f.wait(f.path(api.ManagerInterface+".TestWriter", "postgresql", o))
	if outcome != "ok" || !strings.Contains(result, `"consistency":"application"`) || !strings.Contains(result, `"policy":"db"`) {
		t.Errorf("got %s, %s, %s", outcome, text, result)
	}
	if outcome, _, result = f.wait(f.path(api.ManagerInterface+".TestWriter", "web", options{})); outcome != "ok" || !strings.Contains(result, `"class":"Broken"`) {
		t.Errorf("got %s, %s", outcome, result)
	}
	if outcome, _, _ = f.wait(f.path(api.ManagerInterface+".TestWriter", "nosuch", options{})); outcome != "NotFound" {
		t.Errorf("an unknown writer: %s", outcome)
	}
	err := call(f.conn, api.ManagerPath, api.ManagerInterface+".TestWriter", "web", options{"polcy": dbus.MakeVariant("db")}).Err
	if !named(err, api.BusName+".Error.Invalid") {
		t.Errorf("an unknown option: %v", err)
	}
}
