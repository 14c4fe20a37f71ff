package bus

import (
	"hash/fnv"
	"maps"
	"slices"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// setView is what clients were told of a set: a sum of its manifest.
type setView uint64

// jobView is what clients were told of a job.
type jobView struct {
	phase string
	done  bool
}

func viewSet(m *api.Manifest) setView {
	h := fnv.New64a()
	h.Write([]byte(manifestJSON(m)))
	return setView(h.Sum64())
}

func viewJob(j *job) jobView { return jobView{phase: j.currentPhase(), done: j.isDone()} }

// setDiff is what happened to the sets since clients were told.
type setDiff struct{ added, changed, removed []string }

// diffSets compares views; the lists are sorted.
func diffSets(old, now map[string]setView) (d setDiff) {
	for id, v := range now {
		was, ok := old[id]
		switch {
		case !ok:
			d.added = append(d.added, id)
		case was != v:
			d.changed = append(d.changed, id)
		}
	}
	for id := range old {
		if _, ok := now[id]; !ok {
			d.removed = append(d.removed, id)
		}
	}
	slices.Sort(d.added)
	slices.Sort(d.changed)
	slices.Sort(d.removed)
	return d
}

// adopt takes the present state as known: whoever comes later asks for it.
func (l *link) adopt() {
	l.version = l.jobs.setsVersion()
	l.sets, _ = l.viewSets()
	for _, j := range l.jobs.list() {
		l.views[j.number] = viewJob(j)
	}
}

func (l *link) viewSets() (map[string]setView, map[string]*api.Manifest) {
	views, manifests := map[string]setView{}, map[string]*api.Manifest{}
	sets := l.svc.Sets()
	for i := range sets {
		if m := &sets[i]; onBus(m.ID) {
			views[m.ID], manifests[m.ID] = viewSet(m), m
		}
	}
	return views, manifests
}

// quietPhases are those in which nothing is announced: on a host with one CPU the signals of a moment, and who wakes by
// them, would cost more than the freeze window itself.
var quietPhases = map[string]bool{"guard": true, "window": true}

// quiet reports whether a set is in, or about to enter, its freeze window.
func (l *link) quiet() bool {
	for _, j := range l.jobs.list() {
		if quietPhases[j.currentPhase()] && !j.isDone() {
			return true
		}
	}
	return false
}

// announce emits what changed since the last time. Sets come before jobs: who hears that a job has finished can
// already see its set.
func (l *link) announce() {
	if l.quiet() {
		return // the next look is due in phaseInterval
	}
	if v := l.jobs.setsVersion(); v != l.version {
		l.version = v
		l.announceSets()
	}
	l.announceJobs()
	l.announceActs()
}

func (l *link) announceSets() {
	now, manifests := l.viewSets()
	d := diffSets(l.sets, now)
	l.sets = now
	for _, id := range d.removed {
		l.emitRemoved(setPath(id), api.SetInterface)
	}
	for _, id := range d.added {
		l.emitAdded(setPath(id), setInterfaces(manifests[id]))
	}
	for _, id := range d.changed {
		l.emitChanged(setPath(id), api.SetInterface, setTable, setInterfaces(manifests[id])[api.SetInterface])
	}
}

func (l *link) announceJobs() {
	present := map[uint64]bool{}
	for _, j := range l.jobs.list() {
		present[j.number] = true
		was, known := l.views[j.number]
		now := viewJob(j)
		l.views[j.number] = now
		if !known {
			l.emitAdded(j.path(), jobInterfaces(j))
		} else if was != now {
			l.emitChanged(j.path(), api.JobInterface, jobTable, jobInterfaces(j)[api.JobInterface])
		}
		if now.done && !was.done {
			r := j.report
			l.emit(j.path(), api.JobInterface+".Finished", r.outcome, r.err, r.result)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(l.views)) {
		if !present[number] {
			delete(l.views, number)
			l.emitRemoved((&job{number: number}).path(), api.JobInterface)
		}
	}
}

func (l *link) emitAdded(path dbus.ObjectPath, i interfaces) {
	l.emit(managerPath, "org.freedesktop.DBus.ObjectManager.InterfacesAdded", path, map[string]map[string]dbus.Variant(i))
}

func (l *link) emitRemoved(path dbus.ObjectPath, name string) {
	l.emit(managerPath, "org.freedesktop.DBus.ObjectManager.InterfacesRemoved", path, []string{name, propertiesInterface})
}

// emitChanged tells the properties that can change.
func (l *link) emitChanged(path dbus.ObjectPath, name string, table []property, values map[string]dbus.Variant) {
	changed := map[string]dbus.Variant{}
	for _, p := range table {
		if p.emits == "true" {
			changed[p.name] = values[p.name]
		}
	}
	l.emit(path, propertiesInterface+".PropertiesChanged", name, changed, []string{})
}

func (l *link) emit(path dbus.ObjectPath, name string, values ...any) {
	if err := l.conn.Emit(path, name, values...); err != nil {
		l.log.Debug("cannot emit a signal", "signal", name, "object", path, "error", err)
	}
}
