// Package bustest gives tests a private bus and a service that does as it is told.
package bustest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/bus"
)

// Daemon starts a dbus-daemon that ends with the test, and gives its address. A host without one fails the test: a
// bus that was never tried is not a bus that works.
func Daemon(t testing.TB) string {
	t.Helper()
	address, stop, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address
}

// Start starts a dbus-daemon; stop ends it.
func Start() (address string, stop func(), err error) {
	cmd := exec.Command("dbus-daemon", "--session", "--print-address", "--nofork", "--nopidfile")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("cannot start dbus-daemon: %w; install the package dbus", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("cannot read the address of dbus-daemon: %w: %s", err, complaints.Bytes())
	}
	return strings.TrimSpace(line), stop, nil
}

// Anybody may do anything.
func Anybody(*dbus.Conn) bus.Authorizer { return allow{} }

type allow struct{}

func (allow) Authorize(context.Context, dbus.Sender, bus.Action, bus.Details) error { return nil }

// Serve exports svc on the bus at address until the returned function is called, which waits for the end.
func Serve(t testing.TB, address string, s *bus.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(ctx, func() (*dbus.Conn, error) { return dbus.Connect(address) })
	}()
	select {
	case <-s.Ready():
	case err := <-done:
		cancel()
		t.Fatalf("the server ended before it was ready: %v", err)
	case <-time.After(10 * time.Second):
		cancel()
		t.Fatal("the server was not ready after 10 s")
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// Log writes a server's log into the test's.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(writer{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type writer struct{ t testing.TB }

func (w writer) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
