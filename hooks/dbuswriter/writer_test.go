package dbuswriter_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/hooks/dbuswriter"
)

// startBus starts a bus of the test's own.
func startBus(t *testing.T) (address string) {
	t.Helper()
	cmd := exec.Command("dbus-daemon", "--session", "--print-address", "--nofork", "--nopidfile")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("%v; install the package dbus", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func dial(t *testing.T, address string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// fermata stands in for fermatad: it takes registrations, and asks.
type fermata struct {
	t          *testing.T
	conn       *dbus.Conn
	registered chan registration
	refuse     atomic.Pointer[dbus.Error]
}

type registration struct {
	sender string
	name   string
	path   dbus.ObjectPath
}

func newFermata(t *testing.T, address string, refuse *dbus.Error) *fermata {
	t.Helper()
	f := &fermata{t: t, conn: dial(t, address), registered: make(chan registration, 16)}
	f.refuse.Store(refuse)
	err := f.conn.ExportMethodTable(map[string]any{
		"RegisterWriter": func(sender dbus.Sender, name string, path dbus.ObjectPath, _ map[string]dbus.Variant) *dbus.Error {
			f.registered <- registration{string(sender), name, path}
			return f.refuse.Load()
		},
		"UnregisterWriter": func(string) *dbus.Error { return nil },
	}, "/org/fermata/Fermata1", "org.fermata.Fermata1.Manager")
	if err == nil {
		_, err = f.conn.RequestName("org.fermata.Fermata1", dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fermata) awaitRegistration() registration {
	f.t.Helper()
	select {
	case r := <-f.registered:
		return r
	case <-time.After(10 * time.Second):
		f.t.Fatal("no registration within 10 s")
		panic("not reached")
	}
}

// ask calls a phase, and gives the name of the error, or ok.
func ask(conn *dbus.Conn, r registration, phase string, timeout uint64) string {
	options := map[string]dbus.Variant{"timeout_ms": dbus.MakeVariant(timeout)}
	err := conn.Object(r.sender, r.path).Call(dbuswriter.Interface+"."+phase, 0, options).Err
	var e dbus.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return e.Name[strings.LastIndex(e.Name, ".")+1:] + ": " + e.Error()
	}
	return err.Error()
}

// counting is a writer that counts what it is asked for.
func counting(holds *atomic.Int32) *dbuswriter.Writer {
	add := func(n int32) dbuswriter.Func {
		return func(context.Context, dbuswriter.Event) (map[string]any, error) { holds.Add(n); return nil, nil }
	}
	return &dbuswriter.Writer{Name: "stock-1", Freeze: add(1), Thaw: add(-1)}
}

func serve(t *testing.T, w *dbuswriter.Writer, conn *dbus.Conn) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx, conn); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return ended
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// A service that comes first waits for fermatad, registers with each that comes, and lets go when one dies.
func TestServeOutlivesFermatad(t *testing.T) {
	address := startBus(t)
	var holds atomic.Int32
	serve(t, counting(&holds), dial(t, address))
	first := newFermata(t, address, nil)
	r := first.awaitRegistration()
	if r.name != "stock-1" {
		t.Errorf("registered %+v", r)
	}
	for _, phase := range []string{"Prepare", "Freeze"} {
		if got := ask(first.conn, r, phase, 10_000); got != "ok" {
			t.Fatal(phase, got)
		}
	}
	if got := ask(dial(t, address), r, "Thaw", 10_000); !strings.HasPrefix(got, "AccessDenied") || holds.Load() != 1 {
		t.Errorf("asked by a stranger: %s, %d holds", got, holds.Load())
	}
	first.conn.Close()
	eventually(t, "it lets go", func() bool { return holds.Load() == 0 })
	second := newFermata(t, address, nil)
	r = second.awaitRegistration()
	if got := ask(second.conn, r, "Thaw", 10_000); !strings.HasPrefix(got, "HoldLost: ") || !strings.Contains(got, "fermatad has gone") {
		t.Errorf("Thaw of the hold that was lost: %s", got)
	}
	for _, phase := range []string{"Freeze", "Thaw", "Thaw", "Post", "Abort"} {
		if got := ask(second.conn, r, phase, 10_000); got != "ok" {
			t.Error(phase, got)
		}
	}
	if holds.Load() != 0 {
		t.Errorf("%d holds: Thaw was not called once for each Freeze", holds.Load())
	}
}

func TestMaxHold(t *testing.T) {
	address := startBus(t)
	f := newFermata(t, address, nil)
	var holds atomic.Int32
	w := counting(&holds)
	w.MaxHold = 50 * time.Millisecond
	serve(t, w, dial(t, address))
	r := f.awaitRegistration()
	if got := ask(f.conn, r, "Freeze", 10_000); got != "ok" {
		t.Fatal(got)
	}
	eventually(t, "it lets go by itself", func() bool { return holds.Load() == 0 })
	if got := ask(f.conn, r, "Thaw", 10_000); !strings.HasPrefix(got, "HoldLost") || !strings.Contains(got, "held for 50ms") {
		t.Errorf("Thaw: %s", got)
	}
}

// Thaw waits for a Freeze that has outlived its limit, and lets go of what that took.
func TestThawAfterSlowFreeze(t *testing.T) {
	address := startBus(t)
	f := newFermata(t, address, nil)
	var holds atomic.Int32
	w := counting(&holds)
	w.Freeze = func(ctx context.Context, _ dbuswriter.Event) (map[string]any, error) {
		<-ctx.Done()
		holds.Add(1)
		return nil, ctx.Err()
	}
	serve(t, w, dial(t, address))
	r := f.awaitRegistration()
	frozen := make(chan string, 1)
	go func() { frozen <- ask(f.conn, r, "Freeze", 200) }()
	time.Sleep(50 * time.Millisecond)
	if got := ask(f.conn, r, "Thaw", 10_000); got != "ok" {
		t.Error("Thaw", got)
	}
	if got := <-frozen; got != "Failed: context deadline exceeded" || holds.Load() != 0 {
		t.Errorf("Freeze: %s, %d holds", got, holds.Load())
	}
}

func TestServeEnds(t *testing.T) {
	address := startBus(t)
	f := newFermata(t, address, dbus.NewError("org.fermata.Fermata1.Error.Denied", []any{"not you"}))
	var holds atomic.Int32
	if err := <-serve(t, counting(&holds), dial(t, address)); err == nil || !strings.Contains(err.Error(), "cannot register writer stock-1: not you") {
		t.Errorf("a refused registration: %v", err)
	}
	f.awaitRegistration()
	f.refuse.Store(nil)
	conn := dial(t, address)
	ended := serve(t, counting(&holds), conn)
	r := f.awaitRegistration()
	if got := ask(f.conn, r, "Freeze", 10_000); got != "ok" {
		t.Fatal(got)
	}
	conn.Close()
	if err := <-ended; err == nil || holds.Load() != 0 {
		t.Errorf("a lost connection: %v, %d holds", err, holds.Load())
	}
	if err := (&dbuswriter.Writer{Name: "x"}).Serve(t.Context(), dial(t, address)); err == nil {
		t.Error("a writer that cannot hold serves")
	}
}

// The example is built, runs, and stands still when it is asked to.
func TestExampleProgram(t *testing.T) {
	dir := t.TempDir()
	program, file := filepath.Join(dir, "example"), filepath.Join(dir, "file")
	if out, err := exec.Command("go", "build", "-o", program, "./example").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	address := startBus(t)
	f := newFermata(t, address, nil)
	cmd := exec.Command(program, "stock", file)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+address)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r := f.awaitRegistration()
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	eventually(t, "it writes", func() bool { return size() > 0 })
	if got := ask(f.conn, r, "Freeze", 10_000); got != "ok" {
		t.Fatal(got)
	}
	before := size()
	time.Sleep(300 * time.Millisecond)
	if after := size(); after != before {
		t.Errorf("it wrote %d bytes during the hold", after-before)
	}
	if got := ask(f.conn, r, "Thaw", 10_000); got != "ok" {
		t.Error(got)
	}
	eventually(t, "it writes again", func() bool { return size() > before })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
}

// A service of twenty lines.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a service would end by a signal
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return
	}
	defer conn.Close()
	var frozen atomic.Bool
	w := &dbuswriter.Writer{
		Name: "stock",
		Freeze: func(context.Context, dbuswriter.Event) (map[string]any, error) {
			frozen.Store(true)
			return map[string]any{"orders": 42}, nil
		},
		Thaw: func(context.Context, dbuswriter.Event) (map[string]any, error) {
			frozen.Store(false)
			return nil, nil
		},
	}
	if err := w.Serve(ctx, conn); err != nil {
		fmt.Println(err)
	}
}
