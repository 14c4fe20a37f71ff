package daemon

import (
	"slices"
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
