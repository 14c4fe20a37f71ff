package initial

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
)

// full is the share of a pool from which on no schedule is proposed, in percent.
const full = 80

// overview is fermata.yaml: nothing but comments, for the defaults are good.
func overview(h Host) string {
	var out strings.Builder
	fmt.Fprintf(&out, "# A first configuration for %s, by fermata init. fermata config check checks it, fermata doctor says what stands in the way.\n", line(h.Name))
	out.WriteString("# The daemon's own settings are all at their defaults: see fermata.yaml(5).\n")
	comment := func(title string, rows []string) {
		if len(rows) == 0 {
			rows = []string{"none"}
		}
		fmt.Fprintf(&out, "#\n# %s:\n", title)
		for _, row := range rows {
			fmt.Fprintf(&out, "#   %s\n", line(row))
		}
	}
	var can, cannot, room []string
	for _, v := range h.Volumes {
		at := v.Name
		if len(v.MountPoints) > 0 {
			at = strings.Join(v.MountPoints, ", ") + " (" + v.Name + ")"
		}
		switch {
		case possible(v):
			can = append(can, fmt.Sprintf("%s: %s, %s, by provider %s", at, v.FSType, size(v.Size), v.Provider))
		case v.Problem != "":
			cannot = append(cannot, at+": "+v.Problem)
		}
	}
	comment("Volumes that can be in a set", can)
	if len(cannot) > 0 {
		comment("Those that cannot", cannot)
	}
	for _, p := range h.Pools {
		row := fmt.Sprintf("thin pool %s: %s of %s free", p.Name, size(p.Size-min(p.Used, p.Size)), size(p.Size))
		if crowded(p) {
			row += ": too little for a schedule; extend it first (fermata pool extend " + p.Name + ")"
		}
		room = append(room, row)
	}
	for _, g := range h.Groups {
		room = append(room, fmt.Sprintf("volume group %s: %s free, from which plain snapshots take theirs", g.Name, size(g.Free)))
	}
	comment("Room for snapshots", room)
	return out.String()
}

func crowded(p api.Pool) bool {
	return p.Size > 0 && p.Used*100/p.Size >= full || p.MetadataSize > 0 && p.MetadataUsed*100/p.MetadataSize >= full
}

// said are, of each kind, its title, what a restore does, what a backup leaves out, and what its writer needs.
var said = map[Kind]struct{ title, excludes, restore, needs string }{
	PostgreSQL: {"PostgreSQL", "postmaster.pid", "stop the server, put all files back, start it", "Its user logs in by the socket (peer). Rights and restore: postgresql.md in /usr/share/doc/fermata."},
	MariaDB:    {"MariaDB", "", "stop the server, put all files back, start it", "Debian's mysql@localhost may do what it needs; rights elsewhere: mariadb.md in /usr/share/doc/fermata."},
	MySQL:      {"MySQL", "", "stop the server, put all files back, start it", "Rights that it needs: mariadb.md in /usr/share/doc/fermata."},
	Redis:      {"Redis", "", "stop the server, put all files back, start it", "With a password: --user and --password-file, see redis.md in /usr/share/doc/fermata."},
	Valkey:     {"Valkey", "", "stop the server, put all files back, start it", "With a password: --user and --password-file, see redis.md in /usr/share/doc/fermata."},
	MongoDB:    {"MongoDB", "", "stop the server, put all files back, start it", "With a login: --user and --password-file, see mongodb.md in /usr/share/doc/fermata."},
	SQLite:     {"SQLite", "", "stop the application, put the file back", "It runs as the owner of the file."},
	Libvirt:    {"A virtual machine", "", "", "The guest agent has to run in the machine. For its disks to be in a set, add their volumes to a policy: virtual-machines.md in /usr/share/doc/fermata."},
}

// writer of a server. With problems no policy names it.
func writer(s Server, problems []string) string {
	var out strings.Builder
	k := said[s.Kind]
	fmt.Fprintf(&out, "# %s. %s\n", k.title, k.needs)
	out.WriteString("# fermata writer test tries it, without a snapshot.\n")
	if len(problems) > 0 {
		out.WriteString("# No policy was written for it (fermata volume list --explain says more):\n")
	}
	for _, p := range problems {
		out.WriteString("#   " + line(p) + "\n")
	}
	words := append([]string{"fermata-writer", string(s.Kind)}, s.Arguments...)
	fmt.Fprintf(&out, "session: %s\n", list(words))
	if s.User != "" {
		fmt.Fprintf(&out, "user: %s\n", scalar(s.User))
	}
	switch s.Kind {
	case PostgreSQL, MariaDB, MySQL, Redis, Valkey, SQLite:
		out.WriteString("verify: true              # fermata snapshot verify tries a set's copy with the application's own programs\n")
	}
	if len(s.Paths) > 0 {
		paths := s.Paths
		if s.Kind == SQLite {
			paths = []string{s.Paths[0], s.Paths[0] + "-wal", s.Paths[0] + "-journal"}
		}
		fmt.Fprintf(&out, "components:\n  - name: data\n    paths: %s\n", list(paths))
		if k.excludes != "" {
			fmt.Fprintf(&out, "    excludes: %s\n", list([]string{k.excludes}))
		}
		fmt.Fprintf(&out, "    restore_method: %s\n", scalar(k.restore))
	}
	return out.String()
}

// policy of a server.
func policy(s Server, writer string, on []api.Volume, often bool) string {
	return fmt.Sprintf("# %s: sets of all that it writes to.\nvolumes: %s\nwriters: [%s]\n%s", said[s.Kind].title, list(points(on)), writer, schedule(often))
}

func plainPolicy(what string, on []api.Volume, often bool) string {
	return "# " + what + "\nvolumes: " + list(points(on)) + "\n" + schedule(often)
}

// schedule and retention; where nothing runs by itself, as comments.
func schedule(often bool) string {
	text := "schedule: hourly          # fermata policy apply makes a timer of it\nretention: {keep_hourly: 24, keep_daily: 7}\n"
	if !often {
		text = "#schedule: weekly\nretention: {keep_last: 3}\n"
	}
	return text
}

func points(volumes []api.Volume) []string {
	var all []string
	for _, v := range volumes {
		all = append(all, v.MountPoints[0])
	}
	return all
}

// list is a list in YAML's short form.
func list(words []string) string {
	var all []string
	for _, w := range words {
		all = append(all, scalar(w))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// scalar is a text in YAML: as it is where nothing in it means anything there, otherwise in quotes, of which JSON's are a part.
func scalar(text string) string {
	for _, r := range text {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/._-0123456789 ", r) {
			return strconv.QuoteToGraphic(text)
		}
	}
	if strings.HasPrefix(text, "--") && len(text) > 2 && !strings.Contains(text, " ") {
		return text
	}
	if text == "" || strings.ContainsAny(text[:1], "-.0123456789 ") || strings.HasSuffix(text, " ") {
		return strconv.Quote(text)
	}
	return text
}

// line keeps a text on one line of a comment.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }

func size(n uint64) string {
	value, unit := float64(n), 0
	for value >= 1024 && unit < 5 {
		value, unit = value/1024, unit+1
	}
	return strconv.FormatFloat(value, 'f', min(unit, 1), 64) + " " + []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}
