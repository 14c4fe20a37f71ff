package mysql

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake speaks MySQL's protocol on a socket (MySQL internals manual, "Client/Server
// Protocol"): the handshake with caching_sha2_password, and COM_QUERY.
type fake struct {
	t        *testing.T
	listener net.Listener
	socket   string
	data     string // the data directory
	working  sync.WaitGroup

	mu        sync.Mutex
	said      []string         // every statement with the number of its connection
	conns     map[int]net.Conn // open ones
	last      int
	version   string
	variables map[string]string
	uptime    int
	gtid, at  string
	// answer is asked first; nil, nil: as a server without tables would.
	answer func(id int, statement string) (*table, error)
}

// table is a result; serverError a refusal.
type (
	table struct {
		columns []string
		rows    [][]string
	}
	serverError struct {
		number uint16
		text   string
	}
)

func (e *serverError) Error() string { return e.text }

// password is what the fake wants of everybody.
const password = "pass word"

// firstConnection is the number of a fake's first connection.
const firstConnection = 101

func newFake(t *testing.T, version string) *fake {
	t.Helper()
	top := t.TempDir()
	f := &fake{t: t, socket: filepath.Join(top, "socket"), data: filepath.Join(top, "data"), version: version, conns: map[int]net.Conn{},
		last: firstConnection - 1, uptime: 100, at: "157", gtid: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"}
	for _, folder := range []string{"shop", "mysql"} {
		if err := os.MkdirAll(filepath.Join(f.data, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"ibdata1", "shop/t.ibd", "mysql/general_log_213.sdi"} {
		if err := os.WriteFile(filepath.Join(f.data, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.variables = map[string]string{"datadir": f.data + "/", "innodb_data_file_path": "ibdata1:12M:autoextend", "log_bin": "ON",
		"log_bin_basename": f.data + "/binlog", "innodb_doublewrite": "ON", "innodb_flush_log_at_trx_commit": "1", "server_uuid": "3e11fa47"}
	var err error
	if f.listener, err = net.Listen("unix", f.socket); err != nil {
		t.Fatal(err)
	}
	f.working.Add(1)
	go f.accept()
	t.Cleanup(f.stop)
	return f
}

// stop is the server's end: of all connections, too.
func (f *fake) stop() {
	_ = f.listener.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.working.Wait()
}

func (f *fake) accept() {
	defer f.working.Done()
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.last++
		id := f.last
		f.conns[id] = c
		f.mu.Unlock()
		f.working.Add(1)
		go func() {
			defer f.working.Done()
			err := f.serve(id, c)
			f.mu.Lock()
			delete(f.conns, id)
			f.mu.Unlock()
			_ = c.Close()
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF) {
				f.t.Errorf("connection %d: %v", id, err)
			}
		}()
	}
}

// kill ends a connection, as KILL does.
func (f *fake) kill(id int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.conns[id]; c != nil {
		_ = c.Close()
	}
}

// awaitNobody waits until all clients have left.
func (f *fake) awaitNobody() {
	f.t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		left := len(f.conns)
		f.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%d clients are still there", left)
		}
	}
}

// statements are all that were sent until now.
func (f *fake) statements() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.said)
}

func (f *fake) serve(id int, c net.Conn) error {
	if err := f.handshake(id, c); err != nil {
		return err
	}
	for {
		_, packet, err := readPacket(c)
		if err != nil {
			return err
		}
		switch packet[0] {
		case 1: // COM_QUIT
			f.note(id, "quit")
			return nil
		case 3: // COM_QUERY
			statement := string(packet[1:])
			f.note(id, statement)
			if err := send(c, 1, f.respond(id, statement)...); err != nil {
				return err
			}
		default:
			return fmt.Errorf("command %d", packet[0])
		}
	}
}

func (f *fake) note(id int, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, fmt.Sprintf("%d: %s", id, what))
}

// handshake asks for the password in full, as a server does that has not seen the
// user since its start; by a socket it comes in clear text.
func (f *fake) handshake(id int, c net.Conn) error {
	const capabilities = 1 | 1<<9 | 1<<13 | 1<<15 | 1<<19 // long password, protocol 4.1, transactions, secure connection, plugin auth
	p := append([]byte{10}, f.version...)
	p = append(p, 0)
	p = binary.LittleEndian.AppendUint32(p, uint32(id))
	p = append(p, "12345678\x00"...)
	p = binary.LittleEndian.AppendUint16(p, capabilities&0xffff)
	p = append(p, 255, 2, 0) // character set, status: autocommit
	p = binary.LittleEndian.AppendUint16(p, capabilities>>16)
	p = append(p, 21)
	p = append(p, make([]byte, 10)...)
	p = append(p, "123456789012\x00caching_sha2_password\x00"...)
	if err := send(c, 0, p); err != nil {
		return err
	}
	seq, response, err := readPacket(c)
	if err != nil {
		return err
	}
	if !bytes.Contains(response, []byte("backup\x00")) || bytes.Contains(response, []byte(password)) {
		return fmt.Errorf("bad login %q", response)
	}
	if err := send(c, seq+1, []byte{1, 4}); err != nil { // full authentication
		return err
	}
	seq, response, err = readPacket(c)
	if err != nil {
		return err
	}
	if string(response) != password+"\x00" {
		return send(c, seq+1, refusal(&serverError{errAccess, "Access denied for user 'backup'@'localhost' (using password: YES)"}))
	}
	return send(c, seq+1, okay)
}

var okay = []byte{0, 0, 0, 2, 0, 0, 0}

func refusal(err error) []byte {
	e := &serverError{1105, err.Error()} // ER_UNKNOWN_ERROR
	errors.As(err, &e)
	p := binary.LittleEndian.AppendUint16([]byte{0xff}, e.number)
	return append(append(p, "#HY000"...), e.text...)
}

// respond returns the packets that answer a statement.
func (f *fake) respond(id int, statement string) [][]byte {
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	var found *table
	var err error
	if answer != nil {
		found, err = answer(id, statement)
	}
	if found == nil && err == nil {
		found, err = f.ordinary(id, statement)
	}
	switch {
	case err != nil:
		return [][]byte{refusal(err)}
	case found == nil:
		return [][]byte{okay}
	}
	packets := [][]byte{{byte(len(found.columns))}}
	for _, name := range found.columns {
		var p []byte
		for _, s := range []string{"def", "", "", "", name, ""} {
			p = appendString(p, s)
		}
		packets = append(packets, append(p, 12, 255, 0, 0, 4, 0, 0, 0xfd, 0, 0, 0, 0, 0)) // VAR_STRING
	}
	eof := []byte{0xfe, 0, 0, 2, 0}
	packets = append(packets, eof)
	for _, r := range found.rows {
		var p []byte
		for _, v := range r {
			p = appendString(p, v)
		}
		packets = append(packets, p)
	}
	return append(packets, eof)
}

// ordinary is the answer of a healthy server; a statement that is not known is an
// error.
func (f *fake) ordinary(id int, statement string) (*table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch first, _, _ := strings.Cut(statement, " "); {
	case statement == "SELECT CONNECTION_ID() AS id":
		return &table{[]string{"id"}, [][]string{{strconv.Itoa(id)}}}, nil
	case statement == "SELECT VERSION() AS version, CURRENT_USER() AS user":
		return &table{[]string{"version", "user"}, [][]string{{f.version, "backup@localhost"}}}, nil
	case strings.HasPrefix(statement, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("):
		found := &table{columns: []string{"Variable_name", "Value"}}
		for name, value := range f.variables {
			found.rows = append(found.rows, []string{name, value})
		}
		return found, nil
	case statement == "SHOW GLOBAL STATUS LIKE 'Uptime'":
		return &table{[]string{"Variable_name", "Value"}, [][]string{{"Uptime", strconv.Itoa(f.uptime)}}}, nil
	case statement == "SHOW MASTER STATUS" || statement == "SHOW BINARY LOG STATUS":
		return &table{[]string{"File", "Position", "Binlog_Do_DB", "Binlog_Ignore_DB", "Executed_Gtid_Set"},
			[][]string{{"binlog.000007", f.at, "", "", f.gtid}}}, nil
	case statement == "SHOW PROCESSLIST":
		return &table{[]string{"Id", "User", "Host", "db", "Command", "Time", "State", "Info"},
			[][]string{{strconv.Itoa(id), "backup", "localhost", "", "Query", "0", "init", "SHOW PROCESSLIST"}}}, nil
	case strings.HasPrefix(statement, "SELECT FILE_NAME AS path FROM information_schema.FILES"):
		return &table{columns: []string{"path"}}, nil
	case statement == "SHOW ENGINE INNODB STATUS":
		return &table{[]string{"Type", "Name", "Status"}, [][]string{{"InnoDB", "", "fine"}}}, nil
	case first == "KILL":
		victim, err := strconv.Atoi(strings.TrimPrefix(statement, "KILL "))
		if c := f.conns[victim]; err == nil && c != nil {
			_ = c.Close()
			return nil, nil
		}
		return nil, &serverError{1094, "Unknown thread id"}
	case first == "SET" || slices.Contains(fakeKnows, statement):
		return nil, nil
	}
	return nil, &serverError{1064, "You have an error in your SQL syntax: " + statement}
}

// fakeKnows are further statements that a fake takes, as MySQL's manual has them.
var fakeKnows = []string{"LOCK INSTANCE FOR BACKUP", "UNLOCK INSTANCE", "FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES", "FLUSH LOCAL ENGINE LOGS"}

func appendString(p []byte, s string) []byte {
	if len(s) > 250 {
		p = append(p, 0xfc)
		return append(binary.LittleEndian.AppendUint16(p, uint16(len(s))), s...)
	}
	return append(append(p, byte(len(s))), s...)
}

func readPacket(c net.Conn) (sequence byte, packet []byte, err error) {
	var header [4]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return 0, nil, err
	}
	packet = make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
	if len(packet) == 0 {
		return 0, nil, errors.New("an empty packet")
	}
	_, err = io.ReadFull(c, packet)
	return header[3], packet, err
}

func send(c net.Conn, sequence byte, packets ...[]byte) error {
	var out []byte
	for _, p := range packets {
		out = append(out, byte(len(p)), byte(len(p)>>8), byte(len(p)>>16), sequence)
		out = append(out, p...)
		sequence++
	}
	_, err := c.Write(out)
	return err
}
