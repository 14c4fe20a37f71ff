package mongodb

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// fake is a server that knows the commands of the recipe, and remembers them.
type fake struct {
	mu      sync.Mutex
	path    string // of its socket
	dbPath  string
	pid     int64
	locks   int64
	conns   int64
	engine  string
	options document         // parsed options beside dbPath
	refuse  map[string]int32 // commands and the code of their refusal
	slow    time.Duration    // how long a lock takes
	seen    []string
	open    []net.Conn
	said    string // of a login
}

func start(t *testing.T) *fake {
	t.Helper()
	dir := t.TempDir()
	f := &fake{path: filepath.Join(dir, "s"), dbPath: dir, pid: 42, engine: "wiredTiger", refuse: map[string]int32{}}
	l, err := net.Listen("unix", f.path)
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
			f.mu.Lock()
			f.conns++
			id := f.conns
			f.open = append(f.open, c)
			f.mu.Unlock()
			go f.serve(c, id)
		}
	}()
	return f
}

func (f *fake) serve(c net.Conn, id int64) {
	defer c.Close()
	for n := int32(100); ; n++ {
		head, request, err := readRequest(c)
		if err != nil {
			return
		}
		if _, err := c.Write(message(n, head, f.answer(request, id))); err != nil {
			return
		}
	}
}

// readRequest reads a message and returns its own number.
func readRequest(c net.Conn) (int32, reply, error) {
	var number [16]byte
	if _, err := c.Read(number[:]); err != nil {
		return 0, nil, err
	}
	_, r, err := readMessage(&both{head: number[:], rest: c})
	return int32(number[4]), r, err
}

// both reads head and then rest.
type both struct {
	head []byte
	rest net.Conn
}

func (b *both) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	return b.rest.Read(p)
}

var names = []string{"saslStart", "saslContinue", "hello", "serverStatus", "getCmdLineOpts", "fsync", "fsyncUnlock", "currentOp"}

func (f *fake) answer(r reply, connection int64) document {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := ""
	for _, n := range names {
		if _, ok := r[n]; ok {
			name = n
		}
	}
	line := name
	for _, key := range slices.Sorted(maps.Keys(r)) {
		if key != name && key != "$db" {
			line += fmt.Sprintf(" %s=%v", key, r[key])
		}
	}
	f.seen = append(f.seen, line)
	if code, ok := f.refuse[name]; ok || r["$db"] != "admin" {
		return document{{"ok", int32(0)}, {"errmsg", "refused"}, {"code", code}}
	}
	ok := element{"ok", int32(1)}
	switch name {
	case "saslStart", "saslContinue":
		return f.sasl(r)
	case "hello":
		return document{ok, {"connectionId", connection}, {"setName", "rs0"}}
	case "serverStatus":
		return document{ok, {"pid", f.pid}, {"version", "7.0.2"}, {"storageEngine", document{{"name", f.engine}}}}
	case "getCmdLineOpts":
		return document{ok, {"parsed", document{{"storage", append(document{{"dbPath", f.dbPath}}, f.options...)}}}}
	case "currentOp":
		return document{ok, {"fsyncLock", f.locks > 0}}
	case "fsync":
		if !r.yes("lock") {
			return document{ok}
		}
		f.mu.Unlock()
		time.Sleep(f.slow)
		f.mu.Lock()
		f.locks++
		return document{ok, {"lockCount", f.locks}}
	case "fsyncUnlock":
		if f.locks == 0 {
			return document{{"ok", int32(0)}, {"errmsg", "fsyncUnlock called when not locked"}, {"code", int32(codeIllegalOperation)}}
		}
		f.locks--
		return document{ok, {"lockCount", f.locks}}
	}
	return document{{"ok", int32(0)}, {"errmsg", "no such command"}, {"code", int32(59)}}
}

// taken are the commands since it was asked last.
func (f *fake) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

func (f *fake) with(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) locked() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.locks
}

// cut ends all connections.
func (f *fake) cut() {
	f.with(func() {
		for _, c := range f.open {
			_ = c.Close()
		}
	})
}
