package daemon

import (
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// Ended is how a request for a set ended, for whoever counts.
type Ended struct {
	// Manifest is the set's; of one that failed, with what it came to.
	Manifest api.Manifest
	// Err is why there is no set; nil if there is one.
	Err error
	// Released is how many filesystems and devices the guard had to release.
	Released int
}

// outcome is ok, degraded (made, with less consistency than could have been), or the class of the error in lower case.
func outcome(m api.Manifest, err error) string {
	switch {
	case err != nil:
		return strings.ToLower(string(api.Of(err)))
	case len(m.Reasons) > 0:
		return "degraded"
	}
	return "ok"
}

// Outcome is how it ended, in a word.
func (e Ended) Outcome() string { return outcome(e.Manifest, e.Err) }

// ran keeps how a request by a policy ended.
func (d *Daemon) ran(policy string, began time.Time, m *api.Manifest, err error) {
	if _, configured := d.o.Config.Policies[policy]; !configured {
		return
	}
	run := &api.PolicyRun{Time: began.UTC(), Duration: time.Since(began)}
	if m != nil {
		run.Set = m.ID
		run.Outcome = outcome(*m, err)
	} else {
		run.Outcome = outcome(api.Manifest{}, err)
	}
	if err != nil {
		run.Error = err.Error()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.runs[policy] = run
}

// ended reports the end of t.
func (t *transaction) ended(err error) {
	if t.daemon.o.Ended == nil {
		return
	}
	e := Ended{Manifest: t.manifest, Err: err}
	if t.writers != nil && e.Manifest.Writers == nil {
		e.Manifest.Writers = t.writerRecords()
	}
	if t.win != nil {
		e.Released = len(t.win.evidence.report.Released)
	}
	t.daemon.o.Ended(e)
}

// Frozen is how many filesystems a set holds frozen, and since when.
type Frozen struct {
	Filesystems int
	Since       time.Time // zero if none is
}

// Frozen tells what is frozen now. It takes no lock.
func (d *Daemon) Frozen() Frozen {
	if f := d.frozen.Load(); f != nil {
		return *f
	}
	return Frozen{}
}

// Known are the finished sets as they were listed last, oldest first, without what changes by itself. It asks nobody.
func (d *Daemon) Known() []api.Manifest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.contents.Sets)
}
