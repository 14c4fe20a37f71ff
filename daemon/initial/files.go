package initial

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/fsfreeze"
)

// Files are a configuration for the host: a writer and a policy for each server, and a policy for the volumes that no server is on. Of a
// server that is not wholly on volumes that can be taken there is a writer only, which says why.
func Files(h Host) []File {
	all := []File{{"fermata.yaml", overview(h)}}
	taken := map[string]bool{}
	names := map[string]int{}
	for _, s := range h.Servers {
		names[string(s.Kind)]++
	}
	used := map[string]bool{}
	for _, s := range h.Servers {
		name := string(s.Kind)
		if names[name] > 1 || s.Kind == SQLite || s.Kind == Libvirt {
			name = unused(used, clean(name+"-"+s.Name))
		}
		used[name] = true
		on, problems := volumesOf(h, s)
		all = append(all, File{"writers.d/" + name + ".yaml", writer(s, problems)})
		for _, v := range on {
			taken[v.Name] = true
		}
		if len(problems) == 0 {
			all = append(all, File{"policies.d/" + name + ".yaml", policy(s, name, on, room(h, on))})
		}
	}
	var rest, system []api.Volume
	for _, v := range h.Volumes {
		switch {
		case taken[v.Name] || !possible(v):
		case slices.ContainsFunc(v.MountPoints, ofSystem):
			system = append(system, v)
		default:
			rest = append(rest, v)
		}
	}
	if len(rest) > 0 {
		all = append(all, File{"policies.d/files.yaml", plainPolicy("What no database that runs is on. Filesystems are frozen, programs are not asked.", rest, room(h, rest))})
	}
	if len(system) > 0 {
		all = append(all, File{"policies.d/system.yaml", plainPolicy("The system itself: for the time before an upgrade.", system, false)})
	}
	return all
}

// room says whether the pools beside these volumes have space for sets that are taken by themselves.
func room(h Host, on []api.Volume) bool {
	for _, p := range h.Pools {
		vg, _, _ := strings.Cut(p.Name, "/")
		if crowded(p) && slices.ContainsFunc(on, func(v api.Volume) bool { return strings.HasPrefix(v.Name, vg+"/") }) {
			return false
		}
	}
	return true
}

// possible says whether a volume can be taken in a set by its mount point.
func possible(v api.Volume) bool { return v.Provider != "" && v.Freezable && len(v.MountPoints) > 0 }

// ofSystem are mount points of the system's own.
func ofSystem(point string) bool {
	return point == "/" || point == "/usr" || point == "/var" || point == "/boot" || strings.HasPrefix(point, "/boot/")
}

var bad = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// clean makes a name of configuration (64 characters at most).
func clean(name string) string {
	name = strings.Trim(bad.ReplaceAllString(name, "-"), "-")
	return name[:min(len(name), 60)]
}

func unused(used map[string]bool, name string) string {
	for i, base := 2, name; used[name]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	return name
}

// volumesOf are the volumes that a server's files lie on, and why some cannot be taken.
func volumesOf(h Host, s Server) (on []api.Volume, problems []string) {
	switch {
	case s.Problem != "":
		return nil, []string{s.Problem}
	case len(s.Paths) == 0:
		return nil, []string{"it is not known where its files are"}
	}
	for _, p := range s.Paths {
		v, point := holding(h.Volumes, p)
		m := fsfreeze.Under(h.Mounts, path.Clean(p))
		switch {
		case len(m.Point) > len(point) || m.Point != "" && m.Point == point && m.FSType != v.FSType:
			problems = append(problems, fmt.Sprintf("%s is on the %s that is mounted at %s, which is no volume that Fermata knows", p, m.FSType, m.Point))
		case point == "":
			problems = append(problems, p+" is on no volume that Fermata knows")
		case !possible(v):
			why := v.Problem
			if why == "" {
				why = "no provider takes it"
			}
			problems = append(problems, fmt.Sprintf("%s is on %s: %s", p, v.Name, why))
		case !slices.ContainsFunc(on, func(o api.Volume) bool { return o.Name == v.Name }):
			on = append(on, v)
		}
	}
	return on, problems
}

// holding is the volume mounted nearest above a path, and where; nowhere: none is.
func holding(volumes []api.Volume, name string) (best api.Volume, at string) {
	for _, v := range volumes {
		for _, point := range v.MountPoints {
			if below(name, point) && len(point) > len(at) {
				best, at = v, point
			}
		}
	}
	return best, at
}

func below(name, dir string) bool {
	return dir == "/" || name == dir || strings.HasPrefix(path.Clean(name), dir+"/")
}
