package initial

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/fermata-project/fermata/daemon/client"
	"github.com/fermata-project/fermata/dm/lvm"
	"github.com/fermata-project/fermata/fsfreeze"
)

const (
	proc    = "/proc"
	maxFile = 1 << 20 // bytes read of any file
)

// Look sees the host: volumes and pools by the daemon, volume groups by LVM, servers by their processes. What it may not see is missing:
// it is for root. databases are files of SQLite, which no process tells of.
func Look(ctx context.Context, c *client.Client, databases []string) (Host, error) {
	var h Host
	h.Name, _ = os.Hostname() // for a comment
	var err error
	if h.Volumes, err = c.Volumes(ctx); err != nil {
		return h, err
	}
	if h.Mounts, err = fsfreeze.MountTable(); err != nil {
		return h, err
	}
	if h.Pools, err = c.Pools(ctx); err != nil {
		return h, err
	}
	if inventory, err := lvm.New(lvm.Options{}).Report(ctx); err == nil { // without LVM there are no groups
		for _, vg := range inventory.VGs {
			h.Groups = append(h.Groups, Group{vg.Name, vg.Free})
		}
	}
	h.Servers = servers()
	for _, file := range databases {
		h.Servers = append(h.Servers, database(file))
	}
	return h, nil
}

// servers are those that run, the paths of each followed.
func servers() []Server {
	var all []Server
	entries, _ := os.ReadDir(proc) // without it nothing runs
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		p, ok := process(e.Name())
		if !ok {
			continue
		}
		if s, ok := recognise(p, read); ok {
			s.Problem = apart(filepath.Join(proc, e.Name(), "root"), s.Paths)
			s.Paths = followed(s)
			all = append(all, s)
		}
	}
	return all
}

// apart says why paths of a process, which sees the tree of files at root, are not the host's; empty: they are.
func apart(root string, paths []string) string {
	for _, path := range paths {
		its, err := os.Stat(filepath.Join(root, path))
		ours, ourErr := os.Stat(path)
		if err != nil || ourErr != nil || !os.SameFile(its, ours) {
			return path + " is not the same to the server and to the host: it runs in a container, perhaps; a policy of its own needs the paths that the host knows"
		}
	}
	return ""
}

// process reads what is known of a process; it may be gone meanwhile.
func process(pid string) (Process, bool) {
	dir := filepath.Join(proc, pid)
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil {
		return Process{}, false // a thread of the kernel's, or not ours to see
	}
	p := Process{Program: program(exe)}
	p.Args = strings.Split(strings.TrimRight(read(filepath.Join(dir, "cmdline")), "\x00"), "\x00")
	p.Dir, _ = os.Readlink(filepath.Join(dir, "cwd"))
	p.User = owner(dir)
	for line := range strings.Lines(read(filepath.Join(dir, "status"))) {
		if parent, ok := strings.CutPrefix(line, "PPid:"); ok {
			of, _ := os.Readlink(filepath.Join(proc, strings.TrimSpace(parent), "exe"))
			p.Child = of != "" && program(of) == p.Program
		}
	}
	return p, true
}

// program is a file's name; of one that an upgrade has replaced, its old name.
func program(exe string) string { return strings.TrimSuffix(filepath.Base(exe), " (deleted)") }

func read(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(f, maxFile)); err != nil {
		return ""
	}
	return b.String()
}

// followed are a server's paths without links, and of PostgreSQL those that links in its data directory lead to.
func followed(s Server) []string {
	paths := s.Paths
	if s.Kind == PostgreSQL {
		links, _ := filepath.Glob(filepath.Join(s.Paths[0], "pg_tblspc", "*")) // the pattern is not malformed
		paths = append(append(paths, filepath.Join(s.Paths[0], "pg_wal")), links...)
	}
	var all []string
	for _, path := range paths {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		if len(all) > 0 && strings.HasPrefix(path, all[0]+"/") {
			continue // it lies in the data directory
		}
		all = append(all, path)
	}
	return slices.Compact(all)
}

// database is a file of SQLite.
func database(file string) Server {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	return Server{Kind: SQLite, Paths: []string{file}, Arguments: []string{file}, Name: name, User: owner(file)}
}

// owner is the user whose a file or a process is; empty: root's, or it is not known.
func owner(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return ""
	}
	u, err := user.LookupId(strconv.Itoa(int(st.Uid)))
	if err != nil {
		return ""
	}
	return u.Username
}
