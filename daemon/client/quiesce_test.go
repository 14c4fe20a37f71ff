package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
	"github.com/fermata-project/fermata/daemon/client"
)

func TestQuiesce(t *testing.T) {
	c, fake, _ := connect(t)
	want := api.QuiesceRequest{
		Volumes: []string{"/srv/db"}, Writers: []string{"postgresql"}, WritersOnly: true, For: 1500 * time.Millisecond,
		Consistency: api.Filesystem, FailIfBusy: true,
	}
	acted := 0
	m, err := c.Quiesce(t.Context(), want, func(context.Context) bool { acted++; return true }, nil)
	if err != nil || m.State != api.Released || acted != 1 {
		t.Fatalf("got %+v, %v; acted %d times", m, err, acted)
	}
	requests, _ := fake.Holds()
	if diff := cmp.Diff([]api.QuiesceRequest{want}, requests); diff != "" {
		t.Errorf("the request changed on the bus (-sent +arrived):\n%s", diff)
	}
	// No field of a request may be forgotten by the bus.
	fields, _ := json.Marshal(want)
	var names map[string]any
	if err := json.Unmarshal(fields, &names); err != nil || len(names) != 6 {
		t.Errorf("the test sets %d fields of a request, want all but policy: %v", len(names), err)
	}
	if _, err := c.Quiesce(t.Context(), api.QuiesceRequest{Policy: "p", For: time.Minute}, func(context.Context) bool { return false }, nil); err != nil {
		t.Error(err)
	}
	if _, released := fake.Holds(); !slices.Equal(released, []bool{true, false}) {
		t.Errorf("released %v", released)
	}
}

func TestQuiesceFails(t *testing.T) {
	c, fake, _ := connect(t)
	for _, tt := range []struct {
		policy string
		limit  time.Duration
		acts   bool
		class  api.Class
	}{
		{"refused", time.Minute, false, api.Refused},
		{"broken", time.Minute, true, api.Broken},
		{"db", 50 * time.Millisecond, true, api.Timeout},
		{"db", 0, false, api.Invalid},
		{"db", api.MaxHold + 1, false, api.Invalid},
	} {
		acted := false
		_, err := c.Quiesce(t.Context(), api.QuiesceRequest{Policy: tt.policy, For: tt.limit}, func(context.Context) bool {
			acted = true
			time.Sleep(100 * time.Millisecond)
			return true
		}, nil)
		if api.Of(err) != tt.class || acted != tt.acts {
			t.Errorf("%+v: %v, of class %s; acted: %v", tt, err, api.Of(err), acted)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Quiesce(ctx, api.QuiesceRequest{Policy: "db", For: time.Minute}, func(ctx context.Context) bool {
		cancel()
		<-ctx.Done()
		return false
	}, nil)
	if api.Of(err) != api.Cancelled || fake.Cancelled() != 1 {
		t.Errorf("cancelled while held: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.Quiesce(ctx, api.QuiesceRequest{Policy: "slow", For: time.Minute}, nil, nil); api.Of(err) != api.Cancelled {
		t.Errorf("cancelled before it held: %v", err)
	}
}

// A hold goes on without its client only if that was asked for.
func TestQuiesceDetached(t *testing.T) {
	c, fake, _ := connect(t)
	var number uint64
	other := dial(t)
	if err := other.StartQuiesce(t.Context(), api.QuiesceRequest{Policy: "db", For: time.Minute}, func(n uint64) { number = n }); err != nil {
		t.Fatal(err)
	}
	other.Close()
	time.Sleep(100 * time.Millisecond)
	m, err := c.ReleaseQuiesce(t.Context(), number, true)
	if err != nil || m.State != api.Released {
		t.Errorf("got %+v, %v", m, err)
	}
	if _, err := c.ReleaseQuiesce(t.Context(), number, true); err != nil { // it has lasted until it was released
		t.Error(err)
	}
	if _, err := c.ReleaseQuiesce(t.Context(), 4711, true); api.Of(err) != api.Broken {
		t.Errorf("no such hold: %v", err)
	}
	if err := c.StartQuiesce(t.Context(), api.QuiesceRequest{Policy: "db", For: 50 * time.Millisecond}, func(n uint64) { number = n }); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if _, err := c.ReleaseQuiesce(t.Context(), number, true); api.Of(err) != api.Timeout {
		t.Errorf("released too late: %v", err)
	}
	begun := false
	if err := c.StartQuiesce(t.Context(), api.QuiesceRequest{Policy: "refused", For: time.Second}, func(uint64) { begun = true }); api.Of(err) != api.Refused || !begun {
		t.Errorf("refused: %v", err)
	}
	if _, released := fake.Holds(); !slices.Equal(released, []bool{true}) {
		t.Errorf("released %v", released)
	}
	third := dial(t)
	go third.Quiesce(t.Context(), api.QuiesceRequest{Policy: "db", For: time.Minute}, func(context.Context) bool {
		third.Close()
		return true
	}, nil)
	for end := time.Now().Add(10 * time.Second); fake.Cancelled() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the hold of a client that has gone goes on")
		}
	}
}

// A daemon that dies in the hold has broken it.
func TestQuiesceDaemonDies(t *testing.T) {
	address := bustest.Daemon(t)
	t.Setenv(client.AddressVariable, address)
	server := bus.New(&bustest.Fake{}, bustest.Anybody, nil)
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
	_, err = dial(t).Quiesce(t.Context(), api.QuiesceRequest{Policy: "db", For: time.Minute}, func(context.Context) bool {
		conn.Close()
		return true
	}, nil)
	if api.Of(err) != api.Broken || !strings.Contains(err.Error(), "cannot tell whether the hold lasted") {
		t.Errorf("got %v, of class %s", err, api.Of(err))
	}
}
