package bus

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		result polkitResult
		err    error
		want   string // "" for allowed
	}{
		{polkitResult{Authorized: true}, nil, ""},
		{polkitResult{}, nil, "user 1000 may not delete snapshot sets: polkit does not allow it (action org.fermata.fermata1.delete)"},
		{polkitResult{Challenge: true}, nil, "administrator's password"},
		{polkitResult{}, errors.New("no polkit"), "only root may delete snapshot sets here: polkit did not answer: no polkit"},
		{polkitResult{Authorized: true}, errors.New("half an answer"), "only root"},
	} {
		err := verdict(1000, Delete, test.result, test.err)
		if test.want == "" && err != nil || test.want != "" && (err == nil || api.Of(err) != api.Denied || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v, %v: %v", test.result, test.err, err)
		}
	}
}

// privateBus starts a private dbus-daemon; package bustest imports this one, so it cannot serve here.
func privateBus(t *testing.T) string {
	t.Helper()
	address := "unix:path=" + t.TempDir() + "/bus"
	cmd := exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--address="+address)
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start dbus-daemon: %v; install the package dbus", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := dbus.Connect(address); err == nil {
			conn.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatal("dbus-daemon did not answer within 10 s")
		}
	}
}

func connectTo(t *testing.T, address string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// What polkit is asked, and how its answer is read.
func TestCheckAuthorization(t *testing.T) {
	address := privateBus(t)
	conn, authority := connectTo(t, address), connectTo(t, address)
	p := polkit{conn}
	if _, err := p.check(t.Context(), ":1.1", Read, nil); err == nil || !strings.Contains(err.Error(), "ServiceUnknown") {
		t.Errorf("without polkit: %v", err)
	}
	type question struct {
		who    subject
		action string
		about  map[string]string
		flags  uint32
	}
	asked := make(chan question, 1)
	err := authority.ExportMethodTable(map[string]any{
		"CheckAuthorization": func(who subject, action string, about map[string]string, flags uint32, _ string) (polkitResult, *dbus.Error) {
			asked <- question{who, action, about, flags}
			return polkitResult{Challenge: true, Details: map[string]string{}}, nil
		},
	}, "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.RequestName("org.freedesktop.PolicyKit1", 0); err != nil {
		t.Fatal(err)
	}
	for _, interactive := range []bool{false, true} {
		r, err := p.check(withInteraction(t.Context(), interactive), ":1.7", Create, Details{"policy": "db"})
		q := <-asked
		if err != nil || r.Authorized || !r.Challenge || q.action != "org.fermata.fermata1.create" || q.who.Kind != "system-bus-name" || q.about["policy"] != "db" ||
			q.who.Details["name"].Value() != ":1.7" || (q.flags == allowUserInteraction) != interactive {
			t.Errorf("asked %+v, got %+v, %v", q, r, err)
		}
	}
}

func TestPolkitLetsRootThrough(t *testing.T) {
	conn := connectTo(t, privateBus(t))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var uid uint32
	if err := conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixUser", 0, conn.Names()[0]).Store(&uid); err != nil {
		t.Fatal(err)
	}
	err := Polkit(conn).Authorize(ctx, dbus.Sender(conn.Names()[0]), Create, nil)
	// There is no polkit on this bus: root may, everybody else may not.
	if (err == nil) != (uid == 0) {
		t.Errorf("user %d: %v", uid, err)
	}
	if err := Polkit(conn).Authorize(ctx, ":9.9", Create, nil); api.Of(err) != api.Denied {
		t.Errorf("somebody who is not there: %v", err)
	}
}
