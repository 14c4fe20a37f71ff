package initial

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/fsfreeze"
)

func TestRecognise(t *testing.T) {
	pid := "4711\n/var/lib/postgresql/15/main\n1700000000\n5433\n/run/pg\nlocalhost\n"
	files := map[string]string{
		"/var/lib/postgresql/15/main/postmaster.pid": pid,
		"/srv/pg/postmaster.pid":                     strings.NewReplacer("5433", "5432", "/run/pg", "/var/run/postgresql").Replace(pid),
		"/etc/mongod.conf":                           "storage:\n  dbPath: \"/srv/mongo\"\n",
	}
	for name, c := range map[string]struct {
		process Process
		want    Server
	}{
		"PostgreSQL elsewhere": {Process{Program: "postgres", Args: []string{"postgres", "-D", "/var/lib/postgresql/15/main", "-c", "x=y"}, User: "postgres"},
			Server{Kind: PostgreSQL, Name: "5433", User: "postgres", Paths: []string{"/var/lib/postgresql/15/main"}, Arguments: []string{"--dsn", "host=/run/pg port=5433"}}},
		"PostgreSQL": {Process{Program: "postgres", Args: []string{"postgres"}, Dir: "/srv/pg", User: "postgres"},
			Server{Kind: PostgreSQL, Name: "5432", User: "postgres", Paths: []string{"/srv/pg"}}},
		"PostgreSQL's child": {Process{Program: "postgres", Child: true}, Server{}},
		"MariaDB": {Process{Program: "mariadbd", Args: []string{"/usr/sbin/mariadbd"}, Dir: "/var/lib/mysql", User: "mysql"},
			Server{Kind: MariaDB, User: "mysql", Paths: []string{"/var/lib/mysql"}}},
		"MySQL": {Process{Program: "mysqld", Args: []string{"mysqld", "--datadir=/srv/my", "--socket=/run/my.sock"}, Dir: "/", User: "mysql"},
			Server{Kind: MySQL, User: "mysql", Paths: []string{"/srv/my"}, Arguments: []string{"--socket", "/run/my.sock"}}},
		"Redis": {Process{Program: "redis-server", Args: []string{"/usr/bin/redis-server 127.0.0.1:6380"}, Dir: "/var/lib/redis", User: "redis"},
			Server{Kind: Redis, User: "redis", Paths: []string{"/var/lib/redis"}, Arguments: []string{"--address", "127.0.0.1:6380"}}},
		"Debian's Redis is a checker of its own": {Process{Program: "redis-check-rdb", Args: []string{"/usr/bin/redis-server 127.0.0.1:6379"}, Dir: "/var/lib/redis", User: "redis"},
			Server{Kind: Redis, User: "redis", Paths: []string{"/var/lib/redis"}}},
		"Valkey": {Process{Program: "valkey-server", Args: []string{"valkey-server unixsocket:/run/v.sock"}, Dir: "/srv/v", User: "valkey"},
			Server{Kind: Valkey, User: "valkey", Paths: []string{"/srv/v"}, Arguments: []string{"--address", "/run/v.sock"}}},
		"MongoDB": {Process{Program: "mongod", Args: []string{"mongod", "--config", "/etc/mongod.conf"}, User: "mongodb"},
			Server{Kind: MongoDB, User: "mongodb", Paths: []string{"/srv/mongo"}}},
		"a machine": {Process{Program: "qemu-system-x86_64", Args: []string{"qemu", "-name", "guest=web1,debug-threads=on"}, User: "libvirt-qemu"},
			Server{Kind: Libvirt, Name: "web1", Arguments: []string{"web1"}}},
		"QEMU without a name": {Process{Program: "qemu-system-x86_64"}, Server{}},
		"anything":            {Process{Program: "sshd"}, Server{}},
	} {
		got, ok := recognise(c.process, func(path string) string { return files[path] })
		if ok != (c.want.Kind != "") || ok && cmp.Diff(c.want, got) != "" {
			t.Errorf("%s: %v\n%s", name, ok, cmp.Diff(c.want, got))
		}
	}
}

func volume(name, provider, problem string, points ...string) api.Volume {
	return api.Volume{Name: name, Size: 10 << 30, FSType: "ext4", MountPoints: points, Provider: provider, Freezable: provider != "", Problem: problem}
}

var hosts = map[string]Host{
	"empty": {Name: "bare"},
	"databases": {
		Name: "db1",
		Volumes: []api.Volume{
			volume("vg/data", "thin", "", "/srv/pg"), volume("vg/wal", "thin", "", "/srv/wal"), volume("vg/home", "thin", "", "/home"),
			volume("vg/root", "thick", "", "/"), volume("sda1", "", "it is no device-mapper volume", "/boot"), volume("vg/raw", "thin", ""),
			volume("sdb1", "", "it is no device-mapper volume", "/srv/cache"),
		},
		Pools:  []api.Pool{{Name: "vg/pool", Size: 100 << 30, Used: 42 << 30, MetadataSize: 1 << 30}},
		Groups: []Group{{"vg", 20 << 30}},
		Servers: []Server{
			{Kind: PostgreSQL, Name: "5432", User: "postgres", Paths: []string{"/srv/pg/main", "/srv/wal/main"}},
			{Kind: PostgreSQL, Name: "5433", User: "postgres", Paths: []string{"/srv/pg/other"}, Arguments: []string{"--dsn", "host=/run/pg port=5433"}},
			{Kind: MariaDB, User: "mysql", Paths: []string{"/var/lib/mysql"}},
			{Kind: Redis, User: "redis", Paths: []string{"/srv/cache/redis"}, Arguments: []string{"--address", "127.0.0.1:6380"}},
			{Kind: SQLite, Name: "shop: all", User: "shop", Paths: []string{"/home/shop/shop: all.db"}, Arguments: []string{"/home/shop/shop: all.db"}},
			{Kind: Libvirt, Name: "web1", Arguments: []string{"web1"}},
		},
	},
	"elsewhere": {
		Name:    "elsewhere",
		Volumes: []api.Volume{volume("vg/root", "thin", "", "/"), volume("vg/srv", "thin", "", "/srv", "/var/lib/mysql")},
		Mounts: []fsfreeze.Mount{
			{Point: "/", FSType: "ext4"}, {Point: "/srv", FSType: "ext4"}, {Point: "/var/lib/mysql", FSType: "ext4"},
			{Point: "/mnt/nas", FSType: "nfs4"}, {Point: "/srv/fast", FSType: "tmpfs"}, {Point: "/tank", FSType: "zfs"},
		},
		Servers: []Server{
			{Kind: PostgreSQL, Name: "5432", User: "postgres", Paths: []string{"/mnt/nas/pg"}},
			{Kind: PostgreSQL, Name: "5433", User: "postgres", Paths: []string{"/srv/pg", "/tank/wal"}},
			{Kind: Redis, User: "redis", Paths: []string{"/srv/fast"}},
			{Kind: MongoDB, Paths: []string{"/data/db"}, Problem: "/data/db is not the same to the server and to the host"},
			{Kind: MariaDB, User: "mysql", Paths: []string{"/var/lib/mysql"}},
		},
	},
	"full": {
		Name:    "full",
		Volumes: []api.Volume{volume("vg/srv", "thin", "", "/srv")},
		Pools:   []api.Pool{{Name: "vg/pool", Size: 100 << 30, Used: 93 << 30, MetadataSize: 1 << 30}},
		Servers: []Server{{Kind: MongoDB, User: "mongodb", Paths: []string{"/srv/mongo"}}},
	},
}

// What it writes is what it was (UPDATE_GOLDEN=1 accepts a change), and a configuration without a fault.
func TestFiles(t *testing.T) {
	for name, host := range hosts {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var all strings.Builder
			for _, f := range Files(host) {
				all.WriteString("==> " + f.Name + "\n" + f.Text + "\n")
				path := filepath.Join(dir, f.Name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden := filepath.Join("testdata", name+".golden")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), all.String()); d != "" {
				t.Error(d)
			}
			c, err := config.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range c.Problems {
				t.Errorf("%v", p)
			}
		})
	}
}

// A path of a process means the host's file only if the process sees the same one.
func TestApart(t *testing.T) {
	data, root := t.TempDir(), t.TempDir()
	if why := apart("/proc/self/root", []string{data, root}); why != "" {
		t.Errorf("our own: %s", why)
	}
	if err := os.MkdirAll(filepath.Join(root, data), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, paths := range map[string][]string{
		"another of that name": {data}, "no such file on the host": {"/nosuch"}, "none in the container": {root},
	} {
		if why := apart(root, paths); !strings.HasPrefix(why, paths[0]+" is not the same") {
			t.Errorf("%s: %q", name, why)
		}
	}
}
