package bus_test

import (
	"maps"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus"
)

// What polkit's rules are told: a policy only if nothing but that policy is asked for.
func TestDetails(t *testing.T) {
	r := &rule{}
	f := start(t, func(*dbus.Conn) bus.Authorizer { return r })
	m := f.fake.Add("db")
	const manager = dbus.ObjectPath(api.ManagerPath)
	set := manager + dbus.ObjectPath("/set/"+m.ID)
	of := bus.Details{"set": m.ID, "policy": "db"}
	at := bus.Details{"set": m.ID, "overrides": "target"}
	target := options{"target": dbus.MakeVariant("/etc")}
	with := func(key string, value any) options {
		return options{"policy": dbus.MakeVariant("db"), key: dbus.MakeVariant(value)}
	}
	for _, test := range []struct {
		path   dbus.ObjectPath
		method string
		args   []any
		want   bus.Details
	}{
		{manager, "CreateSet", []any{policy("db")}, bus.Details{"policy": "db"}},
		{manager, "CreateSet", []any{with("detach", true)}, bus.Details{"policy": "db"}},
		{manager, "CreateSet", []any{with("clone_directory", "/etc")}, bus.Details{"overrides": "clone_directory"}},
		{manager, "CreateSet", []any{with("volumes", []string{"/"})}, bus.Details{"overrides": "volumes"}},
		{manager, "CreateSet", []any{with("policy", 7)}, nil},
		{manager, "CreateSet", []any{options{"volumes": dbus.MakeVariant([]string{"/"})}}, nil},
		{manager, "UseSet", []any{policy("db")}, bus.Details{"policy": "db"}},
		{manager, "UseSet", []any{with("target", "/etc")}, bus.Details{"overrides": "target"}},
		{manager, "UseSet", []any{options{"set": dbus.MakeVariant("latest")}}, of},
		{manager, "UseSet", []any{options{"set": dbus.MakeVariant("latest"), "target": dbus.MakeVariant("/etc")}}, at},
		{manager, "UseSet", []any{options{"set": dbus.MakeVariant("nosuch"), "policy": dbus.MakeVariant("db")}}, nil},
		{manager, "Quiesce", []any{with("for_ns", uint64(1))}, bus.Details{"policy": "db"}},
		{manager, "DeleteSet", []any{m.ID[:10]}, of},
		{manager, "DeleteSet", []any{"nosuch"}, nil},
		{manager, "MountSet", []any{"latest:db", options{}}, of},
		{manager, "MountSet", []any{"latest:db", target}, at},
		{manager, "PrunePolicy", []any{"db"}, bus.Details{"policy": "db"}},
		{manager, "TestWriter", []any{"postgresql", options{}}, bus.Details{"writer": "postgresql"}},
		{manager, "GetSet", []any{"latest"}, of},
		{manager, "ListSets", nil, nil},
		{set, "Delete", nil, of},
		{set, "Mount", []any{options{}}, of},
		{set, "Mount", []any{target}, at},
	} {
		r.lastAbout()
		name := api.ManagerInterface
		if test.path == set {
			name = api.SetInterface
		}
		err := call(f.conn, test.path, name+"."+test.method, test.args...).Err
		if about := r.lastAbout(); !named(err, api.BusName+".Error.Denied") || !maps.Equal(about, test.want) {
			t.Errorf("%s %v: told %v, not %v; %v", test.method, test.args, about, test.want, err)
		}
	}
}

// Somebody who may run one policy can do that, hear how it ended, and nothing else.
func TestOnePolicy(t *testing.T) {
	r := &rule{may: func(a bus.Action, about bus.Details) bool {
		return about["policy"] == "db" && (a == bus.Create || a == bus.Prune)
	}}
	f := start(t, func(*dbus.Conn) bus.Authorizer { return r })
	m := f.fake.Add("db")
	job := f.create(f.conn, policy("db"))
	if outcome, _, _ := f.wait(job); outcome != "ok" {
		t.Errorf("the set of the policy: %q", outcome)
	}
	if v, err := f.conn.Object(api.BusName, job).GetProperty(api.JobInterface + ".State"); err != nil || v.Value() != "done" {
		t.Errorf("its job: %v, %v", v, err)
	}
	other := f.dial()
	if err := call(other, job, api.JobInterface+".Wait").Err; !named(err, api.BusName+".Error.Denied") {
		t.Errorf("the job of somebody else: %v", err)
	}
	for method, args := range map[string][]any{"CreateSet": {policy("home")}, "DeleteSet": {m.ID}, "MountSet": {m.ID, options{}}, "ListSets": nil, "GetSet": {m.ID}, "PrunePolicy": {"home"}} {
		if err := call(f.conn, api.ManagerPath, api.ManagerInterface+"."+method, args...).Err; !named(err, api.BusName+".Error.Denied") {
			t.Errorf("%s: %v", method, err)
		}
	}
}
