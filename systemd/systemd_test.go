package systemd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// listen gives what the process tells systemd.
func listen(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	told := make(chan string, 16)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			told <- string(b[:n])
		}
	}()
	return told
}

func TestNotify(t *testing.T) {
	told := listen(t)
	for _, test := range []struct {
		do   func() error
		want string
	}{
		{func() error { return Ready("3 sets\nWATCHDOG=trigger") }, "READY=1\nSTATUS=3 sets"},
		{func() error { return Status("taking a set") }, "STATUS=taking a set"},
		{Stopping, "STOPPING=1"},
	} {
		if err := test.do(); err != nil {
			t.Error(err)
		}
		if got := <-told; got != test.want {
			t.Errorf("told %q, want %q", got, test.want)
		}
	}
}

func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	if err := errors.Join(Ready("x"), Status("x"), Stopping(), Watchdog(t.Context(), nil, nil)); err != nil {
		t.Error(err)
	}
}

func TestWatchdogTells(t *testing.T) {
	told := listen(t)
	t.Setenv("WATCHDOG_USEC", strconv.Itoa(20_000))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Watchdog(ctx, func() error { return nil }, func(err error) { t.Error(err) }) }()
	for range 3 {
		if got := <-told; got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whoever is not alive is not vouched for.
func TestWatchdogIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Second)
		defer cancel()
		stuck := errors.New("stuck")
		checks, kicks, reports := 0, 0, 0
		alive := func() error {
			if checks++; checks > 4 {
				return stuck
			}
			return nil
		}
		err := watch(ctx, 10*time.Second, alive, func(err error) {
			if reports++; !errors.Is(err, stuck) {
				t.Error(err)
			}
		}, func() error { kicks++; return nil })
		if err != nil || checks != 10 || kicks != 4 || reports != 6 {
			t.Errorf("%d checks, %d kicks, %d reports, %v; want 10, 4, 6", checks, kicks, reports, err)
		}
	})
}
