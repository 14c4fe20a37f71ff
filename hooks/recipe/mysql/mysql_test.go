package mysql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/fermata-project/fermata/hooks/recipe"
)

func TestParseLogin(t *testing.T) {
	for _, test := range []struct {
		content string
		want    login
		err     string
	}{
		{"", login{port: "3306"}, ""},
		{"[client]\nuser = backup\npassword=\"it's #1\"\nsocket=/run/s # here\n", login{user: "backup", password: "it's #1", socket: "/run/s", port: "3306"}, ""},
		{"[mysqld]\nuser=mysql\nport=1\n[client] # mine\nhost=::1\nport=3307\n", login{host: "::1", port: "3307"}, ""},
		{"[client]\nuser=a\n; user=b\n#user=c\nssl\nloose-x=1\n[fermata]\nuser=d\n", login{user: "d", port: "3306"}, ""},
		{"[client]\npassword=a\\sb\\\\n'\\#\n", login{password: `a b\n'\`, port: "3306"}, ""},
		{"[client]\npassword='\n", login{password: "'", port: "3306"}, ""},
		{"user=before any group\n", login{port: "3306"}, ""},
		{"[client]\n!includedir /etc/mysql/conf.d\n", login{}, "line 2 names other files"},
		{"[client\nuser=a\n", login{}, "line 1: a group is written"},
		{"[client]more\n", login{}, "line 1: a group is written"},
	} {
		got, err := parseLogin([]byte(test.content))
		if got != test.want || test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: %+v, %v, want %+v, %q", test.content, got, err, test.want, test.err)
		}
	}
}

func FuzzParseLogin(f *testing.F) {
	f.Add([]byte("[client]\nuser = a\npassword='b\\n#c'\n# x\n!include y\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		l, err := parseLogin(content)
		if err == nil && len(l.user)+len(l.password)+len(l.socket)+len(l.host) > len(content) {
			t.Errorf("%+v is more than was there", l)
		}
	})
}

func TestReadLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "login.cnf")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(content), mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("[client]\npassword=a\n", 0o640)
	if l, err := readLogin(file); err != nil || l.password != "a" {
		t.Errorf("%+v, %v", l, err)
	}
	write("[client]\npassword=a\n", 0o644)
	if _, err := readLogin(file); err == nil || !strings.Contains(err.Error(), "everybody may read") {
		t.Errorf("readable by everybody: %v", err)
	}
	write("[client]\nuser=a\n", 0o644)
	if l, err := readLogin(file); err != nil || l.user != "a" {
		t.Errorf("without password: %+v, %v", l, err)
	}
	write(strings.Repeat("#\n", maxOptionFile), 0o600)
	if _, err := readLogin(file); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("long: %v", err)
	}
	if _, err := readLogin(file + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestConfigure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "login.cnf")
	for _, test := range []struct{ content, socket, net, addr, err string }{
		{"", "/run/own", "unix", "/run/own", ""},
		{"socket=/run/s\n", "", "unix", "/run/s", ""},
		{"socket=/run/s\nhost=localhost\n", "", "unix", "/run/s", ""},
		{"socket=/run/s\nhost=db.example\n", "/run/own", "unix", "/run/own", ""},
		{"host=127.0.0.1\n", "", "tcp", "127.0.0.1:3306", ""},
		{"host=::1\nport=3307\n", "", "tcp", "[::1]:3307", ""},
		{"host=db.example\n", "", "", "", "is not on this host"},
	} {
		if err := os.WriteFile(file, []byte("[client]\nuser=u\n"+test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := configure(Options{DefaultsFile: file, Socket: test.socket})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: %v, want %q", test.content, err, test.err)
			}
			continue
		}
		if err != nil || c.Net != test.net || c.Addr != test.addr || c.User != "u" || c.Timeout == 0 {
			t.Errorf("%q: %+v, %v", test.content, c, err)
		}
	}
	if c, err := configure(Options{}); err != nil || c.User == "" || c.Net != "unix" {
		t.Errorf("without options: %+v, %v", c, err)
	}
	if _, err := New(Options{Lock: "none"}); err == nil || !strings.Contains(err.Error(), "backup-stage, instance, read-lock") {
		t.Errorf("a lock that does not exist: %v", err)
	}
}

func TestChoose(t *testing.T) {
	for _, test := range []struct {
		version, name string
		others        bool
		want, err     string
	}{
		{"10.11.6-MariaDB-0+deb12u1-log", "", true, "backup-stage", ""},
		{"10.4.1-MariaDB", "", false, "backup-stage", ""},
		{"10.3.39-MariaDB", "", false, "read-lock", ""},
		{"11.4.2-MariaDB", "read-lock", false, "read-lock", ""},
		{"10.3.39-MariaDB", "backup-stage", false, "", "needs MariaDB 10.4"},
		{"11.4.2-MariaDB", "instance", false, "", "needs MySQL 8.0"},
		{"8.0.36", "", false, "instance", ""},
		{"8.4.3-log", "", true, "read-lock", ""},
		{"8.4.3", "instance", true, "", "tables of other engines than InnoDB"},
		{"8.0.36", "backup-stage", false, "", "needs MariaDB"},
		{"5.7.44-log", "", false, "read-lock", ""},
		{"5.7.44", "instance", false, "", "needs MySQL 8.0"},
	} {
		s, err := parseVersion(test.version)
		if err != nil {
			t.Fatal(err)
		}
		l, err := choose(test.name, s, test.others)
		if l.name != test.want || test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("choose(%q, %s, %t) = %q, %v", test.name, test.version, test.others, l.name, err)
		}
	}
	for _, bad := range []string{"", "MariaDB", "10", "99999.1.2"} {
		if s, err := parseVersion(bad); err == nil {
			t.Errorf("version %q: %+v", bad, s)
		}
	}
}

func TestShowBinaryLog(t *testing.T) {
	for version, want := range map[string]string{
		"10.11.6-MariaDB": "SHOW MASTER STATUS BINLOG MONITOR", "10.4.1-MariaDB": "SHOW MASTER STATUS REPLICATION CLIENT",
		"8.0.36": "SHOW MASTER STATUS REPLICATION CLIENT", "8.4.0": "SHOW BINARY LOG STATUS REPLICATION CLIENT",
	} {
		s, err := parseVersion(version)
		if err != nil {
			t.Fatal(err)
		}
		if statement, right := s.showBinaryLog(); statement+" "+right != want {
			t.Errorf("%s: %s %s, want %s", version, statement, right, want)
		}
	}
}

func TestSame(t *testing.T) {
	p := position{connection: "7", uptime: 100, file: "b.1", at: "4", gtid: "0-1-5", mark: "GTID 0-1-5"}
	with := func(change func(*position)) position { q := p; change(&q); return q }
	for _, test := range []struct {
		name     string
		was, now position
		commits  bool
		want     string
	}{
		{"same", p, with(func(p *position) { p.uptime = 103 }), true, ""},
		{"another connection", p, with(func(p *position) { p.connection = "8" }), true, "is there a proxy between"},
		{"restarted", p, with(func(p *position) { p.uptime = 2 }), false, "restarted"},
		{"committed", p, with(func(p *position) { p.mark = "GTID 0-1-6" }), true, "went from GTID 0-1-5 to GTID 0-1-6"},
		{"committed, but nobody minds", p, with(func(p *position) { p.mark = "GTID 0-1-6" }), false, ""},
		{"a checkpoint of MariaDB's", p, with(func(p *position) { p.at = "9" }), true, ""},
		{"no binary log", position{connection: "7"}, position{connection: "7"}, true, ""},
	} {
		err := test.was.same(test.now, test.commits)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestOldest(t *testing.T) {
	rows := []row{
		{"id": "1", "user": "system user", "command": "Query", "time": "900"},
		{"id": "2", "user": "app", "command": "Sleep", "time": "800"},
		{"id": "3", "user": "app", "host": "localhost", "command": "Execute", "time": "6"},
		{"id": "4", "user": "app", "command": "Query", "time": "3"},
		{"id": "5", "user": "fermata", "command": "Query", "time": "50"},
		{"id": "6", "user": "fermata", "command": "Query", "time": "40"},
		{"id": "7", "user": "app", "command": "Query", "time": ""},
	}
	if got, ok := oldest(rows, "5", "6"); !ok || got.Error() != "connection 3 (app@localhost) has been running a statement for 6 s" {
		t.Errorf("oldest() = %v, %t", got, ok)
	}
	if got, ok := oldest(rows[:2], "5", "6"); ok {
		t.Errorf("oldest() = %v", got)
	}
}

func TestPatience(t *testing.T) {
	for limit, want := range map[time.Duration]time.Duration{0: 7 * time.Second, 10 * time.Second: 7 * time.Second, time.Second: 700 * time.Millisecond} {
		if got := patience(limit); got != want {
			t.Errorf("patience(%s) = %s, want %s", limit, got, want)
		}
		if limit > 0 && patience(limit)+grace/5 > recipe.Within(limit) {
			t.Errorf("%s leave no time to withdraw", limit)
		}
	}
}

func TestGranted(t *testing.T) {
	s := server{user: "o'neil@%"}
	denied := fmt.Errorf("wrapped: %w", &mysql.MySQLError{Number: errSpecificAccess, Message: "denied"})
	if err := s.granted(denied, "RELOAD"); !strings.HasSuffix(err.Error(), "; GRANT RELOAD ON *.* TO 'o''neil'@'%'") || !errors.Is(err, denied) {
		t.Error(err)
	}
	if err := s.granted(fs.ErrClosed, "RELOAD"); err != fs.ErrClosed {
		t.Error(err)
	}
}

func TestWarnings(t *testing.T) {
	for _, test := range []struct {
		variables map[string]string
		want      string
	}{
		{map[string]string{"innodb_doublewrite": "ON", "innodb_flush_log_at_trx_commit": "1"}, ""},
		{map[string]string{"innodb_doublewrite": "OFF", "innodb_flush_log_at_trx_commit": "1"}, "innodb_doublewrite is off"},
		{map[string]string{"innodb_flush_log_at_trx_commit": "0"}, "is 0: transactions acknowledged"},
		{map[string]string{"innodb_flush_log_at_trx_commit": "2"}, "is 2: a set taken without a filesystem freeze"},
		{map[string]string{"innodb_flush_method": "nosync"}, "innodb_flush_method is nosync"},
	} {
		w := server{variables: test.variables}.warnings()
		if test.want == "" && len(w) > 0 || test.want != "" && (len(w) != 1 || !strings.Contains(w[0], test.want)) {
			t.Errorf("%v: %q, want %q", test.variables, w, test.want)
		}
	}
}

func TestProvenDown(t *testing.T) {
	process := func(name string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(name + "\n")} }
	idle := fstest.MapFS{"1/comm": process("systemd"), "77/comm": process("mysqld_exporter")}
	empty, stopped := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(stopped, "ibdata1"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, data string
		proc       fs.FS
		want       string
	}{
		{"nothing runs", "", idle, ""},
		{"MariaDB runs", "", fstest.MapFS{"12/comm": process("mariadbd")}, "process 12 is a server"},
		{"MySQL runs", "", fstest.MapFS{"12/comm": process("mysqld")}, "process 12 is a server"},
		{"stopped beside another", stopped, fstest.MapFS{"12/comm": process("mysqld")}, ""},
		{"no tablespace", empty, idle, "no such file"},
	} {
		err := provenDown(test.data, test.proc)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestSystemTablespace(t *testing.T) {
	for _, test := range []struct {
		home, files string
		want        []string
	}{
		{"", "ibdata1:12M:autoextend", []string{"ibdata1"}},
		{"", "/a/ibdata1:12M;ibdata2:1G:autoextend", []string{"/a/ibdata1", "ibdata2"}},
		{"/home", "ibdata1:12M;/b/c:1M", []string{"/home/ibdata1", "/b/c"}},
		{"", "", nil},
	} {
		if got := systemTablespace(test.home, test.files); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q, %q: %q, want %q", test.home, test.files, got, test.want)
		}
	}
}

func TestScan(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"data/shop", "data/mysql", "data/lost+found", "elsewhere/blog", "tables"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, content := range map[string]string{
		"data/ibdata1": "", "data/shop/a.ibd": "", "data/shop/far.isl": top + "/tables/far.ibd\n", "data/shop/gone.isl": top + "/tables/gone.ibd",
		"tables/far.ibd": "", "tables/m.MYD": "", "data/mysql/general_log_213.sdi": "",
	} {
		if err := os.WriteFile(filepath.Join(top, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"data/blog": "elsewhere/blog", "data/shop/m.MYD": "tables/m.MYD", "data/old": "nowhere"} {
		if err := os.Symlink(filepath.Join(top, target), filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := scan(context.Background(), filepath.Join(top, "data"))
	want := []recipe.Place{
		{What: "file or folder blog of the data directory", Path: top + "/elsewhere/blog"},
		{What: "file or folder mysql of the data directory", Path: top + "/data/mysql"},
		{What: "file or folder shop of the data directory", Path: top + "/data/shop"},
		{What: "table file shop/far.isl", Path: top + "/tables"},
		{What: "table file shop/m.MYD", Path: top + "/tables"},
	}
	if err != nil || got.others || !reflect.DeepEqual(got.places, want) {
		t.Errorf("scan() = %+v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(top, "elsewhere/blog/m_7.sdi"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := scan(context.Background(), filepath.Join(top, "data")); err != nil || !got.others {
		t.Errorf("with a table of another engine: %+v, %v", got, err)
	}
	if _, err := scan(context.Background(), filepath.Join(top, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no data directory: %v", err)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := scan(ended, filepath.Join(top, "data")); !errors.Is(err, context.Canceled) {
		t.Errorf("out of time: %v", err)
	}
}

func TestSettled(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"data", "log", "binlog"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "data/ibdata1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := server{variables: map[string]string{
		"datadir": top + "/data/", "innodb_log_group_home_dir": "../log", "innodb_undo_directory": "./", "log_bin_basename": top + "/binlog/b",
		"innodb_data_file_path": "ibdata1:12M:autoextend",
	}}
	got, err := s.settled()
	want := []recipe.Place{
		{What: "data directory", Path: top + "/data"}, {What: "InnoDB's log", Path: top + "/log"},
		{What: "InnoDB's undo tablespaces", Path: top + "/data"}, {What: "binary log", Path: top + "/binlog"},
		{What: "InnoDB's system tablespace ibdata1", Path: top + "/data"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("settled() = %+v, %v", got, err)
	}
	folders := s.data(got)["folders"].(map[string]any)
	if want := map[string]any{"data directory": top + "/data", "InnoDB's log": top + "/log", "binary log": top + "/binlog"}; !reflect.DeepEqual(folders, want) {
		t.Errorf("folders %v", folders)
	}
	s.variables["log_bin_basename"] = top + "/none/b"
	if _, err := s.settled(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "cannot find binary log") {
		t.Errorf("a folder that is not there: %v", err)
	}
	s.variables["datadir"] = top + "/none"
	if _, err := s.settled(); err == nil || !strings.Contains(err.Error(), "on this host") {
		t.Errorf("no data directory: %v", err)
	}
}
