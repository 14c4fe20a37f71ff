package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
)

func quiesceOptions(policy string) options {
	return options{"policy": dbus.MakeVariant(policy), "for_ns": dbus.MakeVariant(uint64(time.Minute))}
}

func (f *fixture) quiesce(o options) dbus.ObjectPath {
	f.Helper()
	var path dbus.ObjectPath
	if err := call(f.conn, api.ManagerPath, api.ManagerInterface+".Quiesce", o).Store(&path); err != nil {
		f.Fatal(err)
	}
	return path
}

func waitHeld(t *testing.T, conn *dbus.Conn, path dbus.ObjectPath) (held bool) {
	t.Helper()
	if err := call(conn, path, api.JobInterface+".WaitHeld").Store(&held); err != nil {
		t.Fatal(err)
	}
	return held
}

func TestQuiesceJob(t *testing.T) {
	f := start(t, bustest.Anybody)
	path := f.quiesce(quiesceOptions("db"))
	if !waitHeld(t, f.conn, path) {
		t.Error("it does not hold")
	}
	other := f.dial() // bustest.Anybody lets it
	for range 2 {     // the second says nothing new
		if err := call(other, path, api.JobInterface+".Release", true).Err; err != nil {
			t.Fatal(err)
		}
	}
	if outcome, text, result := f.wait(path); outcome != "ok" || !strings.Contains(result, `"state":"released"`) {
		t.Errorf("outcome %s, %s, %s", outcome, text, result)
	}
	if !waitHeld(t, f.conn, path) {
		t.Error("it has held, and says that it has not")
	}
	if path := f.quiesce(quiesceOptions("refused")); waitHeld(t, f.conn, path) {
		t.Error("what was refused says that it holds")
	}
	path = f.quiesce(quiesceOptions("slow"))
	if err := call(f.conn, path, api.JobInterface+".Release", true).Err; err == nil || !strings.Contains(err.Error(), "nothing is held yet") {
		t.Errorf("released too early: %v", err)
	}
	if err := call(f.conn, path, api.JobInterface+".Cancel").Err; err != nil {
		t.Error(err)
	}
	if waitHeld(t, f.conn, path) {
		t.Error("what was cancelled says that it holds")
	}
	set := f.create(f.conn, policy("db"))
	if err := call(f.conn, set, api.JobInterface+".Release", true).Err; err == nil || !strings.Contains(err.Error(), "its kind is create") {
		t.Errorf("released a set: %v", err)
	}
	for name, o := range map[string]options{
		"no time":        {"policy": dbus.MakeVariant("db")},
		"too long":       {"policy": dbus.MakeVariant("db"), "for_ns": dbus.MakeVariant(uint64(time.Minute) + 1)},
		"far too long":   {"policy": dbus.MakeVariant("db"), "for_ns": dbus.MakeVariant(^uint64(0))},
		"nothing":        {"for_ns": dbus.MakeVariant(uint64(1))},
		"no writers":     {"for_ns": dbus.MakeVariant(uint64(1)), "writers_only": dbus.MakeVariant(true)},
		"unknown option": {"policy": dbus.MakeVariant("db"), "for_ns": dbus.MakeVariant(uint64(1)), "retry": dbus.MakeVariant(uint32(1))},
	} {
		err := call(f.conn, api.ManagerPath, api.ManagerInterface+".Quiesce", o).Err
		if e, ok := err.(dbus.Error); !ok || e.Name != "org.fermata.Fermata1.Error.Invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who may only read may see that something is held, and cannot end it.
func TestOthersMayNotRelease(t *testing.T) {
	r := &rule{allowed: []bus.Action{bus.Quiesce, bus.Read}}
	f := start(t, func(*dbus.Conn) bus.Authorizer { return r })
	path := f.quiesce(quiesceOptions("db"))
	r.mu.Lock()
	r.allowed = []bus.Action{bus.Read}
	r.mu.Unlock()
	other := f.dial()
	if !waitHeld(t, other, path) {
		t.Error("it does not hold")
	}
	if err := call(other, path, api.JobInterface+".Release", true).Err; !named(err, api.BusName+".Error.Denied") {
		t.Errorf("somebody else's hold: %v", err)
	}
	if err := call(f.conn, path, api.JobInterface+".Release", true).Err; err != nil {
		t.Errorf("an own hold: %v", err)
	}
	if outcome, text, _ := f.wait(path); outcome != "ok" {
		t.Errorf("outcome %s, %s", outcome, text)
	}
}
