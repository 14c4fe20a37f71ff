package bus_test

import (
	"context"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
)

// daemonOf finds the process of the bus.
func (f *fixture) daemonOf(conn *dbus.Conn) *os.Process {
	f.Helper()
	var pid uint32
	err := conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, "org.freedesktop.DBus").Store(&pid)
	if err != nil {
		f.Fatal(err)
	}
	p, err := os.FindProcess(int(pid))
	if err != nil {
		f.Fatal(err)
	}
	return p
}

// sets waits until the service has n.
func (f *fixture) sets(n int) bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if len(f.fake.Sets()) == n {
			return true
		}
	}
	return false
}

// The bus stands still, with more to be told than its socket holds: the set is taken all the same, and the server can
// be stopped.
func TestBusStuck(t *testing.T) {
	f := &fixture{T: t, address: bustest.Daemon(t), fake: &bustest.Fake{Gate: make(chan struct{})}}
	f.server = bus.New(f.fake, bustest.Anybody, bustest.Log(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- f.server.Serve(ctx, func() (*dbus.Conn, error) { return dbus.Connect(f.address) })
	}()
	<-f.server.Ready()
	conn := f.dial()
	o := policy("chatty")
	o["detach"] = dbus.MakeVariant(true)
	f.create(conn, o)
	bus := f.daemonOf(conn)
	if err := bus.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer bus.Signal(syscall.SIGCONT)

	const many = 2000
	for range many {
		f.fake.Add("db")
	}
	f.server.Changed()
	time.Sleep(300 * time.Millisecond) // the announcer is stuck by now
	close(f.fake.Gate)
	if !f.sets(many + 1) {
		t.Error("the set was not taken while the bus stood still")
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the server could not be stopped while the bus stood still")
	}
}

// Clients that shout do not stop a set, nor cost memory without end.
func TestFlood(t *testing.T) {
	f := start(t, bustest.Anybody)
	job := f.create(f.conn, policy("chatty"))
	shouter := f.dial()
	owner := ""
	if err := shouter.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, api.BusName).Store(&owner); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	text := strings.Repeat("x", 4000)
	for i := range 4000 {
		msg := &dbus.Message{Type: dbus.TypeSignal, Flags: dbus.FlagNoReplyExpected, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(owner), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/x")),
			dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.DBus"), dbus.FieldMember: dbus.MakeVariant("NameOwnerChanged"),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("", "", "")),
		}, Body: []any{f.conn.Names()[0], text, ""}}
		if i%2 == 0 {
			msg.Type = dbus.TypeMethodCall
			msg.Headers[dbus.FieldInterface] = dbus.MakeVariant(api.ManagerInterface)
			msg.Headers[dbus.FieldMember] = dbus.MakeVariant("CreateSet")
		}
		shouter.Send(msg, make(chan *dbus.Call, 1))
	}
	if v, err := f.conn.Object(api.BusName, job).GetProperty(api.JobInterface + ".State"); err != nil || v.Value() != "running" {
		t.Errorf("under the flood: %v, %v; a forged NameOwnerChanged must not cancel a job", v, err)
	}
	close(f.fake.Gate)
	if outcome, text, _ := f.wait(job); outcome != "ok" {
		t.Errorf("the job ended with %s, %s", outcome, text)
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+100; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
		}
	}
}

// More jobs than a queue should hold are refused as busy.
func TestTooManyJobs(t *testing.T) {
	f := start(t, bustest.Anybody)
	for range 64 {
		f.create(f.conn, policy("slow"))
	}
	if err := call(f.conn, api.ManagerPath, api.ManagerInterface+".CreateSet", policy("slow")).Err; !named(err, api.BusName+".Error.Busy") {
		t.Errorf("the 65th job: %v", err)
	}
	f.conn.Close()
	for deadline := time.Now().Add(10 * time.Second); f.server.Busy(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("jobs run on after their requester vanished")
		}
	}
	if n := f.fake.Cancelled(); n != 64 {
		t.Errorf("%d jobs were undone", n)
	}
}

// What panics costs its call, not the daemon.
func TestPanic(t *testing.T) {
	f := start(t, func(*dbus.Conn) bus.Authorizer { return panics{} })
	if err := call(f.conn, api.ManagerPath, api.ManagerInterface+".Status").Err; !named(err, api.BusName+".Error.Failed") {
		t.Errorf("a method that panics: %v", err)
	}
	var text string
	if err := call(f.conn, api.ManagerPath, "org.freedesktop.DBus.Introspectable.Introspect").Store(&text); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

type panics struct{}

func (panics) Authorize(context.Context, dbus.Sender, bus.Action, bus.Details) error {
	panic("on purpose")
}
