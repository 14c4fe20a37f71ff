package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
)

// printManifest prints all of a set for a person.
func (a *app) printManifest(m *api.Manifest) {
	a.printHead(m)
	a.section("VOLUMES", volumeRows(m.Volumes))
	a.section("WRITERS", writerRows(m.Writers))
	a.section("MOUNTS", mountRows(m.Mounts))
	if m.Verified != nil {
		a.section("VERIFICATION", checkRows(m.Verified))
	}
	if m.Reported != nil {
		a.section("BACKUP", toldRows(m.Reported))
	}
	a.section("TIMELINE", phaseRows(m.Phases))
}

func (a *app) printHead(m *api.Manifest) {
	id := m.ID
	if m.State == api.Planned {
		id = "plan: nothing was done"
	}
	rows := [][]string{{"set", id}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("policy", m.Policy)
	if m.State != api.Planned {
		add("created", instant(m.Created))
	}
	add("consistency", string(m.Consistency))
	for _, r := range m.Reasons {
		add("  because", r)
	}
	if m.State == api.Cloning {
		add("state", setState(*m))
	}
	add("clone of", m.CloneOf)
	if m.State == api.Damaged {
		add("state", "damaged: a snapshot is gone or invalid")
	}
	if m.Window > 0 {
		add("freeze window", span(m.Window))
	}
	if m.Duration > 0 {
		add("duration", span(m.Duration))
	}
	if m.Verified != nil {
		result := "good"
		if !m.Verified.OK {
			result = unsound(m.Verified)
		}
		add("verified", instant(m.Verified.Time)+": "+result)
	}
	if m.Reported != nil {
		add("backup", m.Reported.Outcome+", said by "+cmp.Or(m.Reported.By, "somebody")+" at "+instant(m.Reported.Time))
	}
	if m.Pinned != nil {
		add("pinned", "by "+cmp.Or(m.Pinned.By, "somebody")+" at "+instant(m.Pinned.Time))
	}
	add("labels", labelText(m.Labels))
	printTable(a, nil, nil, rows)
}

// section prints a titled table, or nothing if there are no rows. The first row is the head.
func (a *app) section(title string, rows [][]string) {
	if len(rows) < 2 {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", title)
	printIndented(a, "  ", rows[0], nil, rows[1:])
}

// omitsShown is of how many parts that a snapshot does not have each gets a line.
const omitsShown = 10

// warnOmits says at once what a finished set does not have.
func (a *app) warnOmits(m *api.Manifest) {
	for _, v := range m.Volumes {
		if n := len(v.Omits); n > 0 {
			fmt.Fprintf(a.err, "fermata: warning: the snapshot of %s does not have %s\n",
				printable(cmp.Or(v.MountPoint, v.Volume)), printable(strings.Join(v.Omits[:min(omitsShown, n)], ", ")+more(n-omitsShown)))
		}
	}
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return ", and more (fermata snapshot show --json)"
}

// grouped are the providers that do not take a volume, with the reason; those of one reason together.
func grouped(refused map[string]string) [][2]string {
	var out [][2]string
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		i := slices.IndexFunc(out, func(r [2]string) bool { return r[1] == refused[name] })
		if i < 0 {
			out = append(out, [2]string{name, refused[name]})
		} else {
			out[i][0] += ", " + name
		}
	}
	return out
}

func volumeRows(volumes []api.Snapshot) [][]string {
	rows := [][]string{{"mounted on", "volume", "fs", "size", "provider", "snapshot", "frozen"}}
	if slices.ContainsFunc(volumes, func(v api.Snapshot) bool { return cowUse(v) != "" }) {
		rows[0] = append(rows[0], "copy-on-write used")
	}
	for _, v := range volumes {
		row := []string{v.MountPoint, v.Volume, v.FSType, size(v.Size), v.Provider, v.Name, yes(v.Frozen)}
		if len(rows[0]) > len(row) {
			use := cowUse(v)
			if v.COW != nil {
				use += " of " + size(v.COW.Size)
			}
			row = append(row, use)
		}
		rows = append(rows, row)
		note := func(text string, says bool) {
			if says {
				rows = append(rows, []string{"", "  " + text})
			}
		}
		note("inside "+v.Inside+", as a file", v.Inside != "")
		note("copy-on-write use: "+v.COWUnknown, v.COWUnknown != "")
		note("volatile: a reboot takes it away", v.Volatile)
		note("lost: "+v.Invalid, v.Invalid != "")
		for _, path := range v.Omits[:min(omitsShown, len(v.Omits))] {
			note("without "+path, true)
		}
		note("without more; --json lists them", len(v.Omits) > omitsShown)
		for _, r := range grouped(v.Refused) {
			note("not "+r[0]+": "+r[1], true)
		}
	}
	return rows
}

func writerRows(writers []api.Writer) [][]string {
	rows := [][]string{{"writer", "state", "level", "required", "held", "components"}}
	for _, w := range writers {
		held := ""
		for _, p := range w.Phases {
			if p.Window {
				held = span(p.Duration)
			}
		}
		state := w.State
		if w.Problem != "" {
			state += ": " + w.Problem
		}
		rows = append(rows, []string{w.Name, state, w.Level, yes(w.Required), held, componentNames(w)})
	}
	return rows
}

func mountRows(mounts []api.Mount) [][]string {
	rows := [][]string{{"mounted on", "snapshot at", "device", "writable"}}
	for _, m := range mounts {
		rows = append(rows, []string{m.MountPoint, place(m), m.Device, yes(m.Writable)})
	}
	return rows
}

// phaseRows is the timeline, a phase before its parts; a bar marks the parts of the freeze window.
func phaseRows(phases []api.Phase) [][]string {
	phases = slices.Clone(phases)
	slices.SortStableFunc(phases, func(a, b api.Phase) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.Duration, a.Duration))
	})
	rows := [][]string{{"at", "took", " ", "phase"}}
	for _, p := range phases {
		bar, name := " ", p.Name
		if p.Window {
			bar = "┃"
		}
		if p.Error != "" {
			name += ": " + p.Error
		}
		rows = append(rows, []string{"+" + span(p.Start), span(p.Duration), bar, name})
	}
	return rows
}

func componentNames(w api.Writer) string {
	var list []string
	for _, c := range w.Components {
		list = append(list, c.Name)
	}
	return words(list)
}

func writerNames(m api.Manifest) string {
	var list []string
	for _, w := range m.Writers {
		list = append(list, w.Name)
	}
	return words(list)
}

func labelText(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, ",")
}
