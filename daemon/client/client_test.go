package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
	"github.com/fermata-project/fermata/daemon/client"
)

// connect serves a fake on a private bus and dials it.
func connect(t *testing.T) (*client.Client, *bustest.Fake, *bus.Server) {
	t.Helper()
	address := bustest.Daemon(t)
	t.Setenv(client.AddressVariable, address)
	fake := &bustest.Fake{}
	server := bus.New(fake, bustest.Anybody, bustest.Log(t))
	bustest.Serve(t, address, server)
	return dial(t), fake, server
}

func dial(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRequestArrivesWhole(t *testing.T) {
	c, fake, _ := connect(t)
	want := api.Request{
		Volumes: []string{"/srv/db", "/dev/vg/wal"}, Writers: []string{"postgresql"}, Provider: "thin", Providers: map[string]string{"/srv/db": "thick"},
		Consistency: api.Filesystem, FailIfBusy: true, DryRun: true, Retry: 3, RetryWait: 1500 * time.Millisecond,
		Labels: map[string]string{"job": "nightly"},
	}
	m, err := c.CreateSet(t.Context(), want, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.State != api.Planned || len(m.Volumes) != 2 {
		t.Errorf("the plan is %+v", m)
	}
	if diff := cmp.Diff([]api.Request{want}, fake.Requests()); diff != "" {
		t.Errorf("the request changed on the bus (-sent +arrived):\n%s", diff)
	}
	// No field of a request may be forgotten by the bus.
	fields, _ := json.Marshal(want)
	var names map[string]any
	if err := json.Unmarshal(fields, &names); err != nil {
		t.Fatal(err)
	}
	if len(names) != 10 {
		t.Errorf("the test sets %d fields of a request, want all but policy", len(names))
	}
}

func TestLifeOfASet(t *testing.T) {
	ctx := t.Context()
	c, _, _ := connect(t)
	var mu sync.Mutex
	var phases []string
	m, err := c.CreateSet(ctx, api.Request{Policy: "db"}, func(p string) {
		mu.Lock()
		defer mu.Unlock()
		phases = append(phases, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	sets, err := c.Sets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]api.Manifest{*m}, sets); diff != "" {
		t.Errorf("the set listed is not the set made:\n%s", diff)
	}
	for _, ref := range []string{m.ID, m.ID[:12], "latest", "latest:db"} {
		if got, err := c.Set(ctx, ref); err != nil || got.ID != m.ID {
			t.Errorf("Set(%q) = %v, %v", ref, got, err)
		}
	}
	mounts, err := c.MountSet(ctx, "latest", api.MountOptions{Writable: true, Target: "/mnt/x"})
	if err != nil || len(mounts) != 2 || mounts[0].Path != "/mnt/x/srv/db" || !mounts[0].Writable {
		t.Errorf("MountSet = %+v, %v", mounts, err)
	}
	if err := c.DeleteSet(ctx, m.ID); api.Of(err) != api.Refused {
		t.Errorf("deleting a mounted set: %v", err)
	}
	grown, err := c.ResizeSet(ctx, m.ID, api.ResizeOptions{Volume: m.Volumes[0].Volume, Size: 1 << 30, Grow: true})
	if err != nil || len(grown) != 1 || grown[0].COW == nil || grown[0].COW.Size != 2<<30 {
		t.Errorf("resized: %+v, %v", grown, err)
	}
	if _, err := c.ResizeSet(ctx, m.ID, api.ResizeOptions{}); api.Of(err) != api.Invalid {
		t.Errorf("resized to nothing: %v", err)
	}
	if v, err := c.VerifySet(ctx, "latest:db", nil); err != nil || !v.OK || v.Checks[0].Writer != "postgresql" {
		t.Errorf("verified: %+v, %v", v, err)
	}
	if r, err := c.ReportSet(ctx, m.ID, api.ReportOptions{Outcome: api.BackupOK, By: "nobody"}); err != nil || r.Outcome != api.BackupOK || r.By == "nobody" || r.By == "" {
		t.Errorf("reported: %+v, %v", r, err)
	}
	if _, err := c.ReportSet(ctx, m.ID, api.ReportOptions{Outcome: "fine", Force: true}); api.Of(err) != api.Invalid {
		t.Errorf("reported what is no outcome: %v", err)
	}
	if err := c.UmountSet(ctx, m.ID); err != nil {
		t.Error(err)
	}
	if err := c.DeleteSet(ctx, m.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.Set(ctx, m.ID); api.Of(err) != api.NotFound {
		t.Errorf("a deleted set is still found: %v", err)
	}
}

func TestInventories(t *testing.T) {
	ctx := t.Context()
	c, fake, _ := connect(t)
	check := func(name string, got any, err error, want any) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	w, err := c.Writers(ctx)
	check("Writers", w, err, fake.Writers())
	p, err := c.Providers(ctx)
	check("Providers", p, err, fake.Providers())
	pools, _ := fake.Pools(ctx)
	got, err := c.Pools(ctx)
	check("Pools", got, err, pools)
	volumes, _ := fake.Volumes(ctx)
	v, err := c.Volumes(ctx)
	check("Volumes", v, err, volumes)
	s, err := c.Status(ctx)
	check("Status", s, err, fake.Status())
	sets, err := c.Sets(ctx)
	check("Sets", sets, err, []api.Manifest{})
}

func TestClassesCrossTheBus(t *testing.T) {
	c, _, _ := connect(t)
	for policy, class := range map[string]api.Class{
		"broken": api.Broken, "timeout": api.Timeout, "busy": api.Busy, "refused": api.Refused, "invalid": api.Invalid, "denied": api.Denied,
	} {
		_, err := c.CreateSet(t.Context(), api.Request{Policy: policy}, nil)
		var e *api.Error
		if !errors.As(err, &e) || e.Class != class {
			t.Errorf("policy %s: error %v of class %q, want class %q", policy, err, api.Of(err), class)
		}
	}
	if _, err := c.CreateSet(t.Context(), api.Request{}, nil); api.Of(err) != api.Invalid {
		t.Errorf("an empty request: %v", err)
	}
}

func TestCancelWaitsForTheUndo(t *testing.T) {
	c, fake, _ := connect(t)
	fake.Undo = 300 * time.Millisecond
	for _, test := range []struct {
		name  string
		ctx   func() (context.Context, context.CancelFunc)
		class api.Class
	}{
		{"cancelled", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(100*time.Millisecond, cancel)
			return ctx, cancel
		}, api.Cancelled},
		{"deadline", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 100*time.Millisecond)
		}, api.Timeout},
	} {
		before := fake.Cancelled()
		ctx, cancel := test.ctx()
		_, err := c.CreateSet(ctx, api.Request{Policy: "slow"}, nil)
		cancel()
		if api.Of(err) != test.class {
			t.Errorf("%s: %v, of class %s", test.name, err, api.Of(err))
		}
		if fake.Cancelled() != before+1 {
			t.Errorf("%s: CreateSet returned before the undo was done", test.name)
		}
	}
}

func TestProgress(t *testing.T) {
	c, _, _ := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var phases []string
	_, err := c.CreateSet(ctx, api.Request{Policy: "slow"}, func(p string) {
		mu.Lock()
		phases = append(phases, p)
		mu.Unlock()
		cancel()
	})
	if api.Of(err) != api.Cancelled {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(phases, []string{"prepare"}) {
		t.Errorf("phases %v", phases)
	}
}

func TestUnreachable(t *testing.T) {
	t.Setenv(client.AddressVariable, "unix:path=/nonexistent/bus")
	if _, err := client.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot reach the system bus") {
		t.Errorf("without a bus: %v", err)
	}
	t.Setenv(client.AddressVariable, bustest.Daemon(t))
	c := dial(t)
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot reach fermatad") ||
		!strings.Contains(err.Error(), "systemctl status fermatad") {
		t.Errorf("without a daemon: %v", err)
	}
	if running, activatable, err := c.Running(t.Context()); running || activatable || err != nil {
		t.Errorf("Running = %v, %v, %v", running, activatable, err)
	}
}

// A daemon that dies while it takes a set must not leave its client waiting.
func TestDaemonDies(t *testing.T) {
	address := bustest.Daemon(t)
	t.Setenv(client.AddressVariable, address)
	server := bus.New(&bustest.Fake{Undo: time.Hour}, bustest.Anybody, nil)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(t.Context(), func() (*dbus.Conn, error) {
		if !conn.Connected() {
			return nil, errors.New("dead")
		}
		return conn, nil
	})
	<-server.Ready()
	time.AfterFunc(200*time.Millisecond, func() { conn.Close() })
	_, err = dial(t).CreateSet(t.Context(), api.Request{Policy: "slow"}, nil)
	if err == nil || !strings.Contains(err.Error(), "fermatad ended before it answered") {
		t.Errorf("CreateSet: %v", err)
	}
}
