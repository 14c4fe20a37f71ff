package redis

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// fake answers commands as a table says, each time with the next of its answers,
// and at last with the last one. What it does not know is an error.
type fake struct {
	mu      sync.Mutex
	answers map[string][]string
	seen    []string
}

func (f *fake) answer(line string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, line)
	said, ok := f.answers[line]
	if !ok {
		return "-ERR unknown command\r\n"
	}
	if len(said) > 1 {
		f.answers[line] = said[1:]
	}
	return said[0]
}

// taken are the commands since it was asked last.
func (f *fake) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

func (f *fake) serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					words, err := readReply(r) // a command looks like an array of strings
					if err != nil {
						return
					}
					line := strings.Trim(fmt.Sprint(words), "[]")
					if answer := f.answer(line); answer != "" {
						_, _ = c.Write([]byte(answer))
					}
				}
			}()
		}
	}()
	return path
}

func text(lines ...string) string {
	s := strings.Join(lines, "\r\n")
	return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s)
}

func pair(name, value string) string {
	return fmt.Sprintf("*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(name), name, len(value), value)
}

// like is a server with an append-only file.
func like(dir string) *fake {
	const calm = "loading:0\r\nrdb_bgsave_in_progress:0\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\naof_last_write_status:ok"
	return &fake{answers: map[string][]string{
		"INFO server":                    {text("# Server", "redis_version:7.0.15", "run_id:r1")},
		"INFO persistence":               {text(calm, "aof_buffer_length:0", "aof_current_size:9")},
		"INFO replication":               {text("role:master")},
		"CONFIG GET dir":                 {pair("dir", dir)},
		"CONFIG GET dbfilename":          {pair("dbfilename", "dump.rdb")},
		"CONFIG GET appendonly":          {pair("appendonly", "yes")},
		"CONFIG GET appendfsync":         {pair("appendfsync", "everysec")},
		"CONFIG GET appendfilename":      {pair("appendfilename", "appendonly.aof")},
		"CONFIG GET appenddirname":       {pair("appenddirname", "appendonlydir")},
		"CONFIG GET " + minSize:          {pair(minSize, "100"), pair(minSize, fmt.Sprint(100+offset))},
		"CONFIG SET " + minSize + " 100": {"+OK\r\n"},
		"CLIENT ID":                      {":7\r\n"},
		"CLIENT PAUSE 1 WRITE":           {"+OK\r\n"},
		"CLIENT PAUSE 10000 WRITE":       {"+OK\r\n"},
		"CLIENT UNPAUSE":                 {"+OK\r\n"},
		"PUBLISH " + channel + " ":       {":0\r\n", ":0\r\n", ""}, // at last it is paused
		fmt.Sprintf("CONFIG SET %s %d", minSize, 100+int64(offset)): {"+OK\r\n"},
	}}
}

// The commands of a hold, in their order; it begins only when the server has
// nothing left to append.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	f := like(dir)
	w := &writer{options: Options{Address: f.serve(t)}}
	r := hooks.Request{Timeout: time.Minute, Event: hooks.Event{Volumes: []string{dir}}}
	if _, err := w.Prepare(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	prepare := f.taken()
	if want := []string{"CLIENT ID", "PUBLISH " + channel + " ", "CLIENT PAUSE 1 WRITE", "CLIENT UNPAUSE", "CONFIG GET " + minSize,
		fmt.Sprintf("CONFIG SET %s %d", minSize, 100+int64(offset)), "INFO persistence"}; !reflect.DeepEqual(prepare[len(prepare)-len(want):], want) {
		t.Errorf("prepare: %q", prepare)
	}
	busy := strings.Replace(f.answers["INFO persistence"][0], "aof_buffer_length:0", "aof_buffer_length:5", 1)
	f.answers["INFO persistence"] = append([]string{busy, busy}, f.answers["INFO persistence"]...)
	if _, err := w.Freeze(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var freeze []string
	watched := 0
	for _, line := range f.taken() {
		if strings.HasPrefix(line, "PUBLISH ") { // by the watch, which has a connection of its own
			watched++
		} else {
			freeze = append(freeze, line)
		}
	}
	want := []string{"INFO server", "CLIENT ID", "CLIENT PAUSE 10000 WRITE", "INFO persistence", "INFO persistence", "INFO persistence"}
	if !reflect.DeepEqual(freeze, want) || watched != 2 {
		t.Errorf("freeze: %q, %d", freeze, watched)
	}
	// The fake does not answer the watch after the end of the pause: a hold that is not proved.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := w.Thaw(ctx, r); err == nil || !strings.Contains(err.Error(), "the watch does not answer") {
		t.Errorf("Thaw() = %v", err)
	}
}

// A server that never gets its buffer written is refused in time.
func TestFullBuffer(t *testing.T) {
	dir := t.TempDir()
	f := like(dir)
	w := &writer{options: Options{Address: f.serve(t)}}
	r := hooks.Request{Event: hooks.Event{Volumes: []string{dir}}}
	if _, err := w.Prepare(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.answers["INFO persistence"] = []string{strings.Replace(f.answers["INFO persistence"][0], "aof_buffer_length:0", "aof_buffer_length:5", 1)}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := w.Freeze(ctx, r); err == nil || !strings.Contains(err.Error(), "still has something to append") {
		t.Errorf("Freeze() = %v", err)
	}
	f.taken()
	if _, err := w.Thaw(t.Context(), r); err != nil {
		t.Error(err)
	}
	// The last question of the freeze may be read only now.
	got := slices.DeleteFunc(f.taken(), func(command string) bool { return command == "INFO persistence" })
	if want := []string{"CLIENT UNPAUSE", "CONFIG GET " + minSize, "CONFIG SET " + minSize + " 100"}; !reflect.DeepEqual(got, want) {
		t.Errorf("undone by %q", got)
	}
}

func TestServers(t *testing.T) {
	for name, test := range map[string]struct {
		command, answer string
		want            string // part of the refusal
	}{
		"too old":         {"INFO server", text("redis_version:6.0.16", "run_id:r"), "6.2 or newer is needed"},
		"sentinel":        {"INFO server", text("redis_version:7.0.15", "run_id:r", "redis_mode:sentinel"), "sentinel"},
		"no run_id":       {"INFO server", text("redis_version:7.0.15"), "run_id"},
		"no CONFIG":       {"CONFIG GET dir", "-ERR unknown command 'CONFIG'\r\n", "cannot read the setting dir: CONFIG: ERR unknown command"},
		"no such":         {"CONFIG GET dir", "*0\r\n", "no setting dir"},
		"full disk":       {"INFO persistence", text("aof_last_write_status:err"), "cannot write its append-only file"},
		"valkey":          {"INFO server", text("redis_version:7.2.4", "valkey_version:8.1.0", "run_id:r"), ""},
		"no numbers":      {"CONFIG GET " + minSize, pair(minSize, "64mb"), "cannot understand"},
		"nothing of INFO": {"INFO server", ":1\r\n", "not with a string"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := like(dir)
			f.answers[test.command] = []string{test.answer}
			w := &writer{options: Options{Address: f.serve(t)}}
			data, err := w.Prepare(t.Context(), hooks.Request{Event: hooks.Event{Volumes: []string{dir}}})
			if test.want == "" && (err != nil || data["server_version"] != "8.1.0") ||
				test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, %v, want %q", data, err, test.want)
			}
			_ = w.Close()
		})
	}
}

func TestSaved(t *testing.T) {
	begun := time.Unix(100, 999)
	for _, test := range []struct {
		status, at string
		ok         bool
	}{{"ok", "100", true}, {"ok", "101", true}, {"ok", "99", false}, {"err", "101", false}, {"ok", "", false}, {"", "101", false}} {
		_, err := info{"rdb_last_bgsave_status": test.status, "rdb_last_save_time": test.at}.saved(begun)
		if (err == nil) != test.ok {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, size := range []int64{0, 1, 64 << 20, 1 << 40} {
		marked := markedSize(size)
		if marked < offset || plainSize(marked) != size || markedSize(marked) != marked || plainSize(size) != size {
			t.Errorf("%d: %d, %d", size, marked, plainSize(marked))
		}
	}
}

func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{"6.2.0": true, "6.0.16": false, "7.0.15": true, "10.0.0": true, "5.9": false, "": false, "x.y": false, "7": false} {
		if atLeast(version, 6, 2) != want {
			t.Errorf("%q: %t", version, !want)
		}
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{User: "u"}); err == nil {
		t.Error("a user without a password was accepted")
	}
}
