package initial

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Process is what a server is recognised by.
type Process struct {
	Program string // the base name of its executable
	Args    []string
	Dir     string // its working directory
	User    string
	Child   bool // its parent is the same program
}

// option gives the value of an option, written --name=value, --name value or -n value.
func (p Process) option(names ...string) string {
	for i, arg := range p.Args {
		for _, name := range names {
			if value, ok := strings.CutPrefix(arg, name+"="); ok {
				return value
			}
			if arg == name && i+1 < len(p.Args) {
				return p.Args[i+1]
			}
		}
	}
	return ""
}

var guestName = regexp.MustCompile(`^guest=([A-Za-z0-9._-]+)`)

// recognise says which server a process is. What only its files tell is asked of read, which gives "" for what cannot be read.
func recognise(p Process, read func(path string) string) (Server, bool) {
	if p.Child {
		return Server{}, false
	}
	s := Server{User: p.User}
	switch program := p.Program; {
	case program == "postgres" || program == "postmaster":
		return postgresql(p, read)
	case program == "mariadbd" || program == "mysqld":
		s.Kind = MySQL
		if program == "mariadbd" {
			s.Kind = MariaDB
		}
		s.Paths = []string{p.Dir} // mysqld goes there
		if dir := p.option("--datadir", "-h"); dir != "" {
			s.Paths[0] = dir
		}
		if socket := p.option("--socket"); socket != "" {
			s.Arguments = []string{"--socket", socket}
		}
	case program == "redis-server" || program == "valkey-server" || program == "redis-check-rdb":
		s.Kind = Redis
		if program == "valkey-server" {
			s.Kind = Valkey
		}
		s.Paths = []string{p.Dir} // the directive dir is a chdir
		if at := redisAddress(p); at != "" {
			s.Arguments = []string{"--address", at}
		}
	case program == "mongod":
		s.Kind = MongoDB
		dir := p.option("--dbpath")
		if dir == "" {
			dir = setting(read(p.option("--config", "-f")), "dbPath")
		}
		if dir == "" {
			dir = "/data/db"
		}
		s.Paths = []string{dir}
	case strings.HasPrefix(program, "qemu-system-") || program == "qemu-kvm":
		name := guestName.FindStringSubmatch(p.option("-name"))
		if name == nil {
			return s, false
		}
		s = Server{Kind: Libvirt, Name: name[1], Arguments: []string{name[1]}}
	default:
		return s, false
	}
	return s, true
}

// postgresql reads postmaster.pid: process, data directory, start, port, directory of the socket, address (miscinit.c of PostgreSQL).
func postgresql(p Process, read func(string) string) (Server, bool) {
	data := p.option("-D", "--pgdata")
	if data == "" {
		data = p.Dir // the postmaster goes there
	}
	s := Server{Kind: PostgreSQL, User: p.User, Paths: []string{data}}
	lines := strings.Split(read(filepath.Join(data, "postmaster.pid")), "\n")
	if len(lines) < 5 {
		return s, true
	}
	port, dir := strings.TrimSpace(lines[3]), strings.TrimSpace(lines[4])
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return s, true
	}
	s.Name = port
	if standard := dir == "/var/run/postgresql" || dir == "/run/postgresql" || dir == ""; !standard || port != "5432" {
		if dir == "" {
			dir = "/var/run/postgresql"
		}
		s.Arguments = []string{"--dsn", "host=" + dir + " port=" + port}
	}
	return s, true
}

var redisTitle = regexp.MustCompile(`^\S+ (unixsocket:(/\S+)|\S+:([0-9]+))`)

// redisAddress reads the title that the server gives itself: "/usr/bin/redis-server 127.0.0.1:6379".
func redisAddress(p Process) string {
	m := redisTitle.FindStringSubmatch(strings.Join(p.Args, " "))
	switch {
	case m == nil:
		return ""
	case m[2] != "":
		return m[2]
	case m[3] != "6379" && m[3] != "0":
		return "127.0.0.1:" + m[3]
	}
	return ""
}

// setting is the value of a key in a file of lines "key: value", however deep.
func setting(text, key string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+":"); ok {
			return strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return ""
}
