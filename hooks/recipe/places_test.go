package recipe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/fermata-project/fermata/hooks"
)

func TestCheckPlaces(t *testing.T) {
	devices := map[string]uint64{"/": 1, "/srv": 2, "/srv/pg": 2, "/wal": 3, "/wal/pg_wal": 3, "/ts": 4}
	device := func(path string) (uint64, error) {
		if d, ok := devices[path]; ok {
			return d, nil
		}
		return 0, fs.ErrPermission
	}
	data, wal := Place{"data directory", "/srv/pg"}, Place{"write-ahead log", "/wal/pg_wal"}
	for _, test := range []struct {
		name    string
		places  []Place
		volumes []string
		want    string
	}{
		{"all in", []Place{data, wal}, []string{"/srv", "/wal"}, ""},
		{"log outside", []Place{data, wal}, []string{"/srv"}, "the write-ahead log /wal/pg_wal is on none of the set's volumes (/srv)"},
		{"a mount below the volume", []Place{data, {"tablespace t", "/ts"}}, []string{"/", "/srv"}, "the tablespace t /ts is on none"},
		{"unknown volume", []Place{data}, []string{"/gone"}, "cannot look at volume /gone"},
		{"unknown place", []Place{{"data directory", "/gone"}}, []string{"/srv"}, "cannot look at the data directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := checkPlaces(test.places, test.volumes, device)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestOutside(t *testing.T) {
	device := func(path string) (uint64, error) { return uint64(len(path)), nil }
	if err := checkPlaces([]Place{{"file", "/a/b"}}, []string{"/"}, device); !errors.Is(err, ErrOutside) {
		t.Errorf("got %v", err)
	}
}

func TestNamesVolumes(t *testing.T) {
	for _, test := range []struct {
		event hooks.Event
		named bool
		ok    bool
	}{
		{hooks.Event{Volumes: []string{"/"}}, true, true},
		{hooks.Event{DryRun: true}, false, true},
		{hooks.Event{}, false, false},
	} {
		named, err := NamesVolumes(hooks.Request{Event: test.event})
		if named != test.named || (err == nil) != test.ok {
			t.Errorf("%+v: %t, %v", test.event, named, err)
		}
	}
}

func TestProcesses(t *testing.T) {
	proc := fstest.MapFS{"1/comm": {Data: []byte("systemd\n")}, "4711/comm": {Data: []byte("redis-server\n")}, "self": {}}
	if pid, err := AnyProcess(proc, "valkey-server", "redis-server"); pid != 4711 || err != nil {
		t.Errorf("got %d, %v", pid, err)
	}
	if pid, err := AnyProcess(proc, "redis"); pid != 0 || err != nil {
		t.Errorf("got %d, %v", pid, err)
	}
	if IsProcess(proc, "1", "redis-server") || IsProcess(proc, "2", "systemd") || !IsProcess(proc, "1", "systemd") {
		t.Error("wrong processes")
	}
	for host, local := range map[string]bool{"/run/s": true, "localhost": true, "127.0.0.9": true, "::1": true, "db.example": false, "10.0.0.1": false} {
		if Local(host) != local {
			t.Errorf("Local(%s) = %t", host, !local)
		}
	}
}

func TestProvenDown(t *testing.T) {
	proc := fstest.MapFS{"4711/comm": {Data: []byte("mongod\n")}, "comm": {Data: []byte("mongod\n")}}
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "pid")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		name, address, pidFile, server string
		want                           string // part of the doubt; empty: it is down
	}{
		{"nothing runs", "127.0.0.1:6379", "", "redis-server", ""},
		{"something runs", "/run/s", "", "mongod", "process 4711 is a server"},
		{"elsewhere", "db.example:1", "", "redis-server", "cannot be seen from here"},
		{"live pid file", "/run/s", file("4711\n"), "mongod", "process 4711 of"},
		{"stale pid file", "/run/s", file("4712\n"), "mongod", ""},
		{"empty pid file", "/run/s", file(""), "mongod", ""},
		{"no pid file", "/run/s", "/none", "mongod", ""},
		{"a folder", "/run/s", t.TempDir(), "mongod", "is a directory"},
	} {
		err := ProvenDown(test.address, test.pidFile, proc, test.server)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}
