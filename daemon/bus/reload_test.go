package bus_test

import (
	"errors"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
)

// A reload is refused while the configuration is wrong, waits for the jobs that run, and lets none begin after them.
func TestReload(t *testing.T) {
	address := bustest.Daemon(t)
	server := bus.New(&bustest.Fake{}, bustest.Anybody, bustest.Log(t))
	wrong := errors.New("db.yaml:3:1: unknown key")
	checks := make(chan error, 2) // what the next ones say
	begun := make(chan bool, 1)
	server.Reload = &bus.Reload{Check: func() error { return <-checks }, Begin: func() { begun <- true }}
	bustest.Serve(t, address, server)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	reload := func() *dbus.Call { return call(conn, api.ManagerPath, api.ManagerInterface+".Reload") }
	for _, say := range [][]error{{wrong}, {nil, wrong}} {
		for _, err := range say {
			checks <- err
		}
		if err := reload().Err; !named(err, api.BusName+".Error.Invalid") || len(begun) > 0 {
			t.Errorf("a wrong configuration: %v", err)
		}
	}

	checks <- nil
	checks <- nil
	var job dbus.ObjectPath
	if err := call(conn, api.ManagerPath, api.ManagerInterface+".CreateSet", policy("slow")).Store(&job); err != nil {
		t.Fatal(err)
	}
	done := conn.Object(api.BusName, api.ManagerPath).Go(api.ManagerInterface+".Reload", 0, nil)
	if err := call(conn, api.ManagerPath, api.ManagerInterface+".Status").Err; err != nil || len(begun) > 0 {
		t.Errorf("while a job runs: begun %d times, %v", len(begun), err)
	}
	if err := call(conn, job, api.JobInterface+".Cancel").Err; err != nil {
		t.Fatal(err)
	}
	if err := (<-done.Done).Err; err != nil || len(begun) != 1 {
		t.Errorf("begun %d times, %v", len(begun), err)
	}
	if err := call(conn, api.ManagerPath, api.ManagerInterface+".CreateSet", policy("db")).Err; !named(err, api.BusName+".Error.Busy") {
		t.Errorf("a job afterwards: %v", err)
	}
}
