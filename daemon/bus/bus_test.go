package bus_test

import (
	"context"
	"encoding/xml"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
)

type options = map[string]dbus.Variant

// fixture is a fake behind a server on a private bus, and a connection of a client.
type fixture struct {
	*testing.T
	address string
	fake    *bustest.Fake
	server  *bus.Server
	conn    *dbus.Conn
	stop    func()
}

func start(t *testing.T, auth func(*dbus.Conn) bus.Authorizer) *fixture {
	t.Helper()
	f := &fixture{T: t, address: bustest.Daemon(t), fake: &bustest.Fake{Gate: make(chan struct{})}}
	f.server = bus.New(f.fake, auth, bustest.Log(t))
	f.stop = bustest.Serve(t, f.address, f.server)
	f.conn = f.dial()
	return f
}

func (f *fixture) dial() *dbus.Conn {
	f.Helper()
	conn, err := dbus.Connect(f.address, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	return conn
}

func call(conn *dbus.Conn, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return conn.Object(api.BusName, path).Call(method, 0, args...)
}

// create starts a job that takes a set.
func (f *fixture) create(conn *dbus.Conn, o options) dbus.ObjectPath {
	f.Helper()
	var path dbus.ObjectPath
	if err := call(conn, api.ManagerPath, api.ManagerInterface+".CreateSet", o).Store(&path); err != nil {
		f.Fatal(err)
	}
	return path
}

func (f *fixture) wait(path dbus.ObjectPath) (outcome, text, result string) {
	f.Helper()
	if err := call(f.conn, path, api.JobInterface+".Wait").Store(&outcome, &text, &result); err != nil {
		f.Fatal(err)
	}
	return outcome, text, result
}

func policy(name string) options { return options{"policy": dbus.MakeVariant(name)} }

// signals subscribes to everything that the service says.
func (f *fixture) signals() <-chan *dbus.Signal {
	f.Helper()
	if err := f.conn.AddMatchSignal(dbus.WithMatchSender(api.BusName)); err != nil {
		f.Fatal(err)
	}
	ch := make(chan *dbus.Signal, 256)
	f.conn.Signal(ch)
	return ch
}

// until collects signals up to the first for which last is true.
func (f *fixture) until(ch <-chan *dbus.Signal, last func(*dbus.Signal) bool) []*dbus.Signal {
	f.Helper()
	var got []*dbus.Signal
	timeout := time.After(10 * time.Second)
	for {
		select {
		case s := <-ch:
			got = append(got, s)
			if last(s) {
				return got
			}
		case <-timeout:
			for _, s := range got {
				f.Logf("%s %s %v", s.Path, s.Name, s.Body)
			}
			f.Fatal("a signal did not come within 10 s")
		}
	}
}

func short(s *dbus.Signal) string {
	name := s.Name[strings.LastIndex(s.Name, ".")+1:]
	path := strings.TrimPrefix(string(s.Path), api.ManagerPath)
	if strings.HasPrefix(name, "Interfaces") {
		path = strings.TrimPrefix(string(s.Body[0].(dbus.ObjectPath)), api.ManagerPath)
	}
	return path + " " + name
}

func TestSignalsOfALife(t *testing.T) {
	f := start(t, bustest.Anybody)
	ch := f.signals()
	job := f.create(f.conn, policy("db"))
	outcome, _, result := f.wait(job)
	if outcome != "ok" || !strings.Contains(result, `"policy":"db"`) {
		t.Errorf("outcome %q, result %q", outcome, result)
	}
	got := f.until(ch, func(s *dbus.Signal) bool { return s.Name == api.JobInterface+".Finished" })
	set := "/set/" + f.fake.Sets()[0].ID
	var names []string
	for _, s := range got {
		names = append(names, short(s))
	}
	// The job may have ended before it was announced; then its properties did not change after that.
	names = slices.DeleteFunc(names, func(n string) bool { return n == "/job/1 PropertiesChanged" })
	added, told := slices.Index(names, set+" InterfacesAdded"), slices.Index(names, "/job/1 Finished")
	if added < 0 || told < added || !slices.Contains(names, "/job/1 InterfacesAdded") {
		t.Errorf("signals in this order: %q", names)
	}

	f.fake.Damage(f.fake.Sets()[0].ID)
	f.server.Changed()
	got = f.until(ch, func(s *dbus.Signal) bool { return strings.HasPrefix(short(s), set) })
	last := got[len(got)-1]
	if changed := last.Body[1].(options); short(last) != set+" PropertiesChanged" || changed["State"].Value() != "damaged" {
		t.Errorf("a set that became damaged is told of by %s %v", short(last), last.Body)
	}

	f.wait(f.path(api.ManagerInterface+".DeleteSet", "latest"))
	f.until(ch, func(s *dbus.Signal) bool { return short(s) == set+" InterfacesRemoved" })
}

// path calls a method of the manager that answers with a job.
func (f *fixture) path(method string, args ...any) (path dbus.ObjectPath) {
	f.Helper()
	if err := call(f.conn, api.ManagerPath, method, args...).Store(&path); err != nil {
		f.Fatal(err)
	}
	return path
}

func TestObjects(t *testing.T) {
	f := start(t, bustest.Anybody)
	m := f.fake.Add("db")
	job := f.create(f.conn, policy("slow"))
	path := dbus.ObjectPath(api.ManagerPath + "/set/" + m.ID)

	var all map[dbus.ObjectPath]map[string]options
	if err := call(f.conn, api.ManagerPath, "org.freedesktop.DBus.ObjectManager.GetManagedObjects").Store(&all); err != nil {
		t.Fatal(err)
	}
	set, running := all[path][api.SetInterface], all[job][api.JobInterface]
	if len(all) != 2 || set["Id"].Value() != m.ID || set["Created"].Value() != uint64(bustest.Epoch.UnixMicro()) || set["Policy"].Value() != "db" {
		t.Errorf("managed objects: %v", all)
	}
	if running["State"].Value() != "running" || running["Kind"].Value() != "create" || running["Outcome"].Value() != "" {
		t.Errorf("the running job: %v", running)
	}
	o := f.conn.Object(api.BusName, path)
	if v, err := o.GetProperty(api.SetInterface + ".Manifest"); err != nil || !strings.Contains(v.Value().(string), m.ID) {
		t.Errorf("Manifest = %v, %v", v, err)
	}
	if v, err := f.conn.Object(api.BusName, api.ManagerPath).GetProperty(api.ManagerInterface + ".Version"); err != nil || v.Value() != "1.2.3" {
		t.Errorf("Version = %v, %v", v, err)
	}
	if err := o.SetProperty(api.SetInterface+".State", dbus.MakeVariant("x")); !named(err, "org.freedesktop.DBus.Error.PropertyReadOnly") {
		t.Errorf("setting a property: %v", err)
	}
	if !f.server.Busy() {
		t.Error("a job runs and the server is not busy")
	}
	if err := call(f.conn, job, api.JobInterface+".Cancel").Err; err != nil {
		t.Error(err)
	}
	if outcome, text, _ := f.wait(job); outcome != "Cancelled" || text == "" {
		t.Errorf("a cancelled job ended with %q, %q", outcome, text)
	}
	if f.server.Busy() {
		t.Error("no job runs and the server is busy")
	}
	var mount dbus.ObjectPath
	if err := o.Call(api.SetInterface+".Mount", 0, options{}).Store(&mount); err != nil {
		t.Fatal(err)
	}
	if outcome, text, result := f.wait(mount); outcome != "ok" || !strings.Contains(result, "/srv/wal") {
		t.Errorf("Mount: %q, %q, %q", outcome, text, result)
	}
}

func named(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}

func TestWhatIsRefused(t *testing.T) {
	f := start(t, bustest.Anybody)
	f.fake.Add("a")
	f.fake.Add("a")
	many := make([]string, 257)
	for i := range many {
		many[i] = "/srv"
	}
	manager, prefix := dbus.ObjectPath(api.ManagerPath), api.BusName+".Error."
	createSet := func(o options) func() error {
		return func() error { return call(f.conn, manager, api.ManagerInterface+".CreateSet", o).Err }
	}
	for _, test := range []struct {
		name  string
		call  func() error
		error string
		text  string
	}{
		{"unknown key", createSet(options{"polcy": dbus.MakeVariant("db")}), prefix + "Invalid", `no option "polcy"`},
		{"wrong type", createSet(options{"volumes": dbus.MakeVariant("/srv")}), prefix + "Invalid", "option volumes: has D-Bus type s, not as"},
		{"signed retry", createSet(options{"policy": dbus.MakeVariant("db"), "retry": dbus.MakeVariant(int32(1))}), prefix + "Invalid", "option retry: has D-Bus type i, not u"},
		{"retry too often", createSet(options{"policy": dbus.MakeVariant("db"), "retry": dbus.MakeVariant(uint32(1 << 31))}), prefix + "Invalid", "option retry"},
		{"endless wait", createSet(options{"policy": dbus.MakeVariant("db"), "retry_wait_ns": dbus.MakeVariant(^uint64(0))}), prefix + "Invalid", "option retry_wait_ns"},
		{"too many volumes", createSet(options{"volumes": dbus.MakeVariant(many)}), prefix + "Invalid", "has 257 entries, at most 256"},
		{"long path", createSet(options{"volumes": dbus.MakeVariant([]string{"/" + strings.Repeat("x", 4096)})}), prefix + "Invalid", "has 4097 bytes, at most 4096"},
		{"relative path", createSet(options{"volumes": dbus.MakeVariant([]string{"srv"})}), prefix + "Invalid", "entry 0: \"srv\" is not an absolute path"},
		{"nothing asked", createSet(options{}), prefix + "Invalid", "names a policy or volumes"},
		{"both asked", createSet(options{"policy": dbus.MakeVariant("db"), "volumes": dbus.MakeVariant([]string{"/srv"})}), prefix + "Invalid", "not both"},
		{"consistency", createSet(options{"policy": dbus.MakeVariant("db"), "consistency": dbus.MakeVariant("total")}), prefix + "Invalid", "none of crash"},
		{"arguments", func() error { return call(f.conn, manager, api.ManagerInterface+".CreateSet", 7).Err }, "org.freedesktop.DBus.Error.InvalidArgs", ""},
		{"unknown set", func() error { return call(f.conn, manager, api.ManagerInterface+".GetSet", "1999").Err }, prefix + "NotFound", "no set"},
		{"ambiguous", func() error { return call(f.conn, manager, api.ManagerInterface+".GetSet", "2026").Err }, prefix + "NotFound", "beginning of 2 sets"},
		{"no policy's set", func() error { return call(f.conn, manager, api.ManagerInterface+".DeleteSet", "latest:b").Err }, prefix + "NotFound", `policy "b"`},
		{"long id", func() error {
			return call(f.conn, manager, api.ManagerInterface+".GetSet", strings.Repeat("2", 256)).Err
		}, prefix + "Invalid", "at most 255"},
		{"mount target", func() error {
			return call(f.conn, manager, api.ManagerInterface+".MountSet", "latest", options{"target": dbus.MakeVariant("mnt")}).Err
		}, prefix + "Invalid", "option target"},
		{"no such object", func() error { return call(f.conn, manager+"/set/nosuch", api.SetInterface+".Delete").Err }, "org.freedesktop.DBus.Error.UnknownObject", ""},
		{"the subtree's root", func() error { return call(f.conn, manager+"/set", api.SetInterface+".Delete").Err }, "org.freedesktop.DBus.Error.UnknownObject", ""},
		{"no such job", func() error { return call(f.conn, manager+"/job/01", api.JobInterface+".Wait").Err }, "org.freedesktop.DBus.Error.UnknownObject", ""},
		{"no such method", func() error { return call(f.conn, manager, api.ManagerInterface+".Serve").Err }, "org.freedesktop.DBus.Error.UnknownMethod", ""},
		{"a job has no set's method", func() error { return call(f.conn, manager+"/job/1", api.SetInterface+".Delete").Err }, "org.freedesktop.DBus.Error.UnknownInterface", ""},
	} {
		err := test.call()
		if !named(err, test.error) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %#v, want %s with %q", test.name, err, test.error, test.text)
		}
	}
	if n := len(f.fake.Requests()); n != 0 {
		t.Errorf("%d wrong requests reached the service", n)
	}
}

func TestRequesterVanishes(t *testing.T) {
	f := start(t, bustest.Anybody)
	gone := f.dial()
	detached := policy("slow")
	detached["detach"] = dbus.MakeVariant(true)
	bound, kept := f.create(gone, policy("slow")), f.create(gone, detached)
	other := f.create(f.conn, policy("slow"))
	gone.Close()
	if outcome, _, _ := f.wait(bound); outcome != "Cancelled" {
		t.Errorf("the job of a requester that vanished ended with %q", outcome)
	}
	for _, job := range []dbus.ObjectPath{kept, other} {
		if v, err := f.conn.Object(api.BusName, job).GetProperty(api.JobInterface + ".State"); err != nil || v.Value() != "running" {
			t.Errorf("job %s: %v, %v; want running", job, v, err)
		}
	}
}

// rule is an authorizer that allows some actions, and counts.
type rule struct {
	mu      sync.Mutex
	allowed []bus.Action
	asked   []bus.Action
	about   bus.Details // of the last one
	may     func(bus.Action, bus.Details) bool
}

func (r *rule) Authorize(_ context.Context, _ dbus.Sender, a bus.Action, about bus.Details) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, a)
	r.about = about
	if r.may != nil && r.may(a, about) {
		return nil
	}
	if slices.Contains(r.allowed, a) {
		return nil
	}
	return api.Errorf(api.Denied, "may not %s", a)
}

// lastAbout gives what it was told of the last call, once.
func (r *rule) lastAbout() bus.Details {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.about = nil }()
	return r.about
}

// take gives what was asked for since the last time.
func (r *rule) take() []bus.Action {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

func TestEveryMethodAsks(t *testing.T) {
	r := &rule{}
	f := start(t, func(*dbus.Conn) bus.Authorizer { return r })
	set := dbus.ObjectPath(api.ManagerPath + "/set/" + f.fake.Add("db").ID)
	const manager = dbus.ObjectPath(api.ManagerPath)
	tested := map[string]bool{}
	for _, test := range []struct {
		path   dbus.ObjectPath
		method string
		args   []any
		action bus.Action
	}{
		{manager, api.ManagerInterface + ".CreateSet", []any{policy("db")}, bus.Create},
		{manager, api.ManagerInterface + ".Quiesce", []any{quiesceOptions("db")}, bus.Quiesce},
		{manager, api.ManagerInterface + ".UseSet", []any{policy("db")}, bus.Use},
		{manager, api.ManagerInterface + ".TestWriter", []any{"w", options{}}, bus.Create},
		{manager, api.ManagerInterface + ".DeleteSet", []any{"latest"}, bus.Delete},
		{manager, api.ManagerInterface + ".MountSet", []any{"latest", options{}}, bus.Mount},
		{manager, api.ManagerInterface + ".UmountSet", []any{"latest"}, bus.Mount},
		{manager, api.ManagerInterface + ".ResizeSet", []any{"latest", map[string]dbus.Variant{"size_bytes": dbus.MakeVariant(uint64(1))}}, bus.Resize},
		{manager, api.ManagerInterface + ".VerifySet", []any{"latest"}, bus.Verify},
		{manager, api.ManagerInterface + ".ReportSet", []any{"latest", map[string]dbus.Variant{"outcome": dbus.MakeVariant("ok")}}, bus.Report},
		{manager, api.ManagerInterface + ".GetSet", []any{"latest"}, bus.Read},
		{manager, api.ManagerInterface + ".ListSets", nil, bus.Read},
		{manager, api.ManagerInterface + ".ListJobs", nil, bus.Read},
		{manager, api.ManagerInterface + ".Reload", nil, bus.Configure},
		{manager, api.ManagerInterface + ".ListWriters", nil, bus.Read},
		{manager, api.ManagerInterface + ".ListPolicies", nil, bus.Read},
		{manager, api.ManagerInterface + ".PlanPrune", []any{"db"}, bus.Read},
		{manager, api.ManagerInterface + ".PrunePolicy", []any{"db"}, bus.Prune},
		{manager, api.ManagerInterface + ".PinSet", []any{"latest"}, bus.Pin},
		{manager, api.ManagerInterface + ".UnpinSet", []any{"latest"}, bus.Pin},
		{manager, api.ManagerInterface + ".ListProviders", nil, bus.Read},
		{manager, api.ManagerInterface + ".ListPools", nil, bus.Read},
		{manager, api.ManagerInterface + ".ShowPool", []any{"vg/pool"}, bus.Read},
		{manager, api.ManagerInterface + ".MeasurePool", []any{"vg/pool"}, bus.ExtendPool},
		{manager, api.ManagerInterface + ".ExtendPool", []any{"vg/pool", map[string]dbus.Variant{"size_bytes": dbus.MakeVariant(uint64(1))}}, bus.ExtendPool},
		{manager, api.ManagerInterface + ".ListVolumes", nil, bus.Read},
		{manager, api.ManagerInterface + ".Status", nil, bus.Read},
		{manager, "org.freedesktop.DBus.ObjectManager.GetManagedObjects", nil, bus.Read},
		{manager, "org.freedesktop.DBus.Properties.GetAll", []any{api.ManagerInterface}, bus.Read},
		{set, "org.freedesktop.DBus.Properties.Get", []any{api.SetInterface, "Id"}, bus.Read},
		{set, api.SetInterface + ".Delete", nil, bus.Delete},
		{set, api.SetInterface + ".Mount", []any{options{}}, bus.Mount},
		{set, api.SetInterface + ".Umount", nil, bus.Mount},
		{set, api.SetInterface + ".Resize", []any{options{}}, bus.Resize},
		{set, api.SetInterface + ".Verify", nil, bus.Verify},
		{set, api.SetInterface + ".Report", []any{options{}}, bus.Report},
		{"/org/fermata/Fermata1/job/1", api.JobInterface + ".Wait", nil, bus.Read},
		{"/org/fermata/Fermata1/job/1", api.JobInterface + ".WaitHeld", nil, bus.Read},
	} {
		tested[test.method] = true
		err := call(f.conn, test.path, test.method, test.args...).Err
		if asked := r.take(); !named(err, api.BusName+".Error.Denied") || !slices.Equal(asked, []bus.Action{test.action}) {
			t.Errorf("%s: asked for %v, error %v; want %s, denied", test.method, asked, err, test.action)
		}
	}
	if len(f.fake.Requests()) != 0 || len(f.fake.Sets()) != 1 {
		t.Error("a denied call reached the service")
	}
	// No method is left out. What follows has tests of its own: it depends on whose job or writer it is, or tells nothing.
	for _, own := range []string{
		api.ManagerInterface + ".RegisterWriter", api.ManagerInterface + ".UnregisterWriter", api.JobInterface + ".Cancel", api.JobInterface + ".Release",
		"org.freedesktop.DBus.Properties.Set", "org.freedesktop.DBus.Introspectable.Introspect",
	} {
		tested[own] = true
	}
	all := map[string]bool{}
	for _, path := range []dbus.ObjectPath{manager, set, "/org/fermata/Fermata1/job/1"} {
		for _, method := range methodsAt(t, f.conn, path) {
			all[method] = true
			if !tested[method] {
				t.Errorf("nobody has looked whether %s asks", method)
			}
		}
	}
	if len(all) != len(tested) {
		t.Errorf("%d methods are tested, there are %d", len(tested), len(all))
	}
}

// methodsAt are the methods of an object, as introspection tells of them.
func methodsAt(t *testing.T, conn *dbus.Conn, path dbus.ObjectPath) []string {
	t.Helper()
	var text string
	if err := call(conn, path, "org.freedesktop.DBus.Introspectable.Introspect").Store(&text); err != nil {
		t.Fatal(err)
	}
	var node introspect.Node
	if err := xml.Unmarshal([]byte(text), &node); err != nil {
		t.Fatal(err)
	}
	var methods []string
	for _, i := range node.Interfaces {
		for _, m := range i.Methods {
			methods = append(methods, i.Name+"."+m.Name)
		}
	}
	return methods
}

func TestOwnJobsMayBeCancelled(t *testing.T) {
	r := &rule{allowed: []bus.Action{bus.Create, bus.Read}}
	f := start(t, func(*dbus.Conn) bus.Authorizer { return r })
	job := f.create(f.conn, policy("slow"))
	r.mu.Lock()
	r.allowed = []bus.Action{bus.Read}
	r.mu.Unlock()
	if err := call(f.dial(), job, api.JobInterface+".Cancel").Err; !named(err, api.BusName+".Error.Denied") {
		t.Errorf("somebody else's job: %v", err)
	}
	if err := call(f.conn, job, api.JobInterface+".Cancel").Err; err != nil {
		t.Errorf("an own job: %v", err)
	}
}

func TestStopUndoesWhatRuns(t *testing.T) {
	f := start(t, bustest.Anybody)
	f.fake.Undo = 200 * time.Millisecond
	job := f.create(f.conn, policy("slow"))
	type ending struct {
		outcome string
		err     error
	}
	done := make(chan ending, 1)
	go func() {
		var e ending
		var text, result string
		e.err = call(f.conn, job, api.JobInterface+".Wait").Store(&e.outcome, &text, &result)
		done <- e
	}()
	time.Sleep(100 * time.Millisecond)
	f.stop()
	if f.fake.Cancelled() != 1 {
		t.Error("Serve returned before the set was undone")
	}
	if e := <-done; e.err != nil || e.outcome != "Cancelled" {
		t.Errorf("the requester was told %q, %v", e.outcome, e.err)
	}
}

func TestNameTaken(t *testing.T) {
	f := start(t, bustest.Anybody)
	second := bus.New(f.fake, bustest.Anybody, nil)
	err := second.Serve(t.Context(), func() (*dbus.Conn, error) { return dbus.Connect(f.address) })
	if !errors.Is(err, bus.ErrNameTaken) {
		t.Errorf("a second server: %v", err)
	}
}

// The bus goes away while a set is taken, and another one comes: the job goes on, and everything is there again.
func TestBusLost(t *testing.T) {
	first, stop, err := bustest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	second := bustest.Daemon(t)
	var mu sync.Mutex
	address := first
	fake := &bustest.Fake{}
	server := bus.New(fake, bustest.Anybody, bustest.Log(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go server.Serve(ctx, func() (*dbus.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		return dbus.Connect(address)
	})
	<-server.Ready()
	f := &fixture{T: t, address: first, fake: fake, server: server}
	fake.Add("db")
	job := f.create(f.dial(), policy("slow"))

	mu.Lock()
	address = second
	mu.Unlock()
	stop()
	f.address = second
	f.conn = f.dial()
	deadline := time.Now().Add(10 * time.Second)
	for {
		v, err := f.conn.Object(api.BusName, job).GetProperty(api.JobInterface + ".State")
		if err == nil {
			if v.Value() != "running" {
				t.Errorf("after the bus was lost the job is %v", v)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server did not come back: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := call(f.conn, job, api.JobInterface+".Cancel").Err; err != nil {
		t.Error(err)
	}
	if outcome, _, _ := f.wait(job); outcome != "Cancelled" {
		t.Errorf("the job ended with %q", outcome)
	}
}

func TestIntrospection(t *testing.T) {
	f := start(t, bustest.Anybody)
	id := f.fake.Add("db").ID
	read := func(path dbus.ObjectPath) (introspect.Node, string) {
		t.Helper()
		var text string
		if err := call(f.conn, path, "org.freedesktop.DBus.Introspectable.Introspect").Store(&text); err != nil {
			t.Fatal(err)
		}
		var n introspect.Node
		if err := xml.Unmarshal([]byte(text), &n); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, text)
		}
		return n, text
	}
	manager, text := read(api.ManagerPath)
	if len(manager.Children) != 2 || !strings.Contains(text, "retry_wait_ns t") {
		t.Errorf("the manager is described as\n%s", text)
	}
	var create *introspect.Method
	for _, i := range manager.Interfaces {
		for _, m := range i.Methods {
			if m.Name == "CreateSet" {
				create = &m
			}
		}
	}
	if create == nil || len(create.Args) != 2 || create.Args[0].Type != "a{sv}" || create.Args[1].Type != "o" || create.Args[1].Name != "job" {
		t.Errorf("CreateSet is described as %+v", create)
	}
	root, _ := read(api.ManagerPath + "/set")
	if len(root.Children) != 1 || root.Children[0].Name != id || len(root.Interfaces) != 0 {
		t.Errorf("/set is described as %+v", root)
	}
	set, text := read(api.ManagerPath + "/set/" + dbus.ObjectPath(id))
	if len(set.Interfaces) != 3 || !strings.Contains(text, `<property name="Created" type="t" access="read">`) {
		t.Errorf("a set is described as\n%s", text)
	}
	// What others make of it: gdbus and busctl are not everywhere, dbus-send comes with the bus.
	out, err := exec.Command("dbus-send", "--bus="+f.address, "--print-reply", "--dest="+api.BusName, api.ManagerPath,
		api.ManagerInterface+".ListSets").CombinedOutput()
	if err != nil || !strings.Contains(string(out), id) {
		t.Errorf("dbus-send: %v\n%s", err, out)
	}
}
