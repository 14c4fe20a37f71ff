package rescue

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// Held is what a transaction holds in its freeze window, as the daemon journals it before.
type Held struct {
	Filesystems []HeldFilesystem `json:"filesystems"`
	Devices     []uint64         `json:"devices"`
}

// HeldFilesystem names a superblock by its device number, and by a mount point for people.
type HeldFilesystem struct {
	Point string `json:"point"`
	Dev   uint64 `json:"dev"`
}

// Transaction is one that was in its freeze window when it was last heard of.
type Transaction struct {
	Set  string
	Held Held
	// Released is what the guard's note says that it has released, and Finished that the note speaks of no failure: then
	// nothing of the transaction is held any more.
	Released []string
	Finished bool
}

// Device is a suspended device-mapper device.
type Device struct {
	Dev  uint64
	Name string
}

// State is what is known of the host.
type State struct {
	Transactions []Transaction
	Mounts       []fsfreeze.Mount
	Suspended    []Device
	// Below lists the device numbers at and below a filesystem's own, by that.
	Below map[uint64][]uint64
}

// Request is what was asked for: by default what is ours, with All everything, with Points the filesystems mounted
// there, whoever froze them.
type Request struct {
	All    bool
	Points []string
}

// Target is one thing to release.
type Target struct {
	Kind   Kind
	Name   string
	Dev    uint64
	Set    string           // whose it is, or empty if it is not known to be ours
	Mounts []fsfreeze.Mount // of a filesystem
}

// Kind of a Target.
type Kind string

const (
	KindDevice     Kind = "device"
	KindFilesystem Kind = "filesystem"
)

// Plan is what is to be done.
type Plan struct {
	Targets []Target
	// Gone is what is ours and cannot be reached: a filesystem that was unmounted while frozen.
	Gone []Target
	// Left are suspended devices that are not ours and that nobody asked for.
	Left []Device
	// Settled: nothing can be on its way to being frozen any more, so that what is not frozen is asked once.
	Settled bool
}

// ErrNotMounted: there is no filesystem of its own at the path.
var ErrNotMounted = errors.New("it is not a mount point (findmnt lists them)")

// Decide plans. Its error names the points that are none; the plan is good for the others.
func Decide(s State, r Request) (Plan, error) {
	p := planner{state: s, filesystems: fsfreeze.Filesystems(s.Mounts), taken: map[thing]bool{}}
	var err error
	if len(r.Points) == 0 {
		for _, t := range s.Transactions {
			if !t.Finished {
				p.ours(t)
			}
		}
	} else {
		err = p.named(r.Points)
	}
	if r.All {
		p.everything()
	}
	for _, d := range s.Suspended {
		if !p.taken[thing{KindDevice, d.Dev}] {
			p.plan.Left = append(p.plan.Left, d)
		}
	}
	return p.plan, err
}

// thing is what can be released once.
type thing struct {
	kind Kind
	dev  uint64
}

type planner struct {
	state       State
	filesystems []fsfreeze.Filesystem
	taken       map[thing]bool
	plan        Plan
}

func (p *planner) ours(t Transaction) {
	for _, dev := range t.Held.Devices {
		if !slices.Contains(t.Released, DeviceName(dev)) {
			p.device(dev, t.Set)
		}
	}
	for _, f := range t.Held.Filesystems {
		if slices.Contains(t.Released, f.Point) {
			continue
		}
		if !p.filesystem(f.Dev, t.Set) {
			p.plan.Gone = append(p.plan.Gone, Target{Kind: KindFilesystem, Name: f.Point, Dev: f.Dev, Set: t.Set})
		}
	}
}

func (p *planner) everything() {
	for _, d := range p.state.Suspended {
		p.device(d.Dev, "")
	}
	for _, f := range p.filesystems {
		if fsfreeze.Freezable(f.Type) {
			p.filesystem(f.Dev, "")
		}
	}
}

func (p *planner) named(points []string) error {
	var errs []error
	for _, point := range points {
		m, ok := fsfreeze.At(p.state.Mounts, point)
		if !ok {
			errs = append(errs, fmt.Errorf("cannot thaw %s: %w", point, ErrNotMounted))
			continue
		}
		for _, dev := range p.state.Below[m.Dev] {
			p.device(dev, p.owner(KindDevice, dev))
		}
		p.filesystem(m.Dev, p.owner(KindFilesystem, m.Dev))
	}
	return errors.Join(errs...)
}

// owner is the set that holds something, or empty.
func (p *planner) owner(k Kind, dev uint64) string {
	for _, t := range p.state.Transactions {
		if t.Finished {
			continue
		}
		holds := slices.Contains(t.Held.Devices, dev)
		if k == KindFilesystem {
			holds = slices.ContainsFunc(t.Held.Filesystems, func(f HeldFilesystem) bool { return f.Dev == dev })
		}
		if holds {
			return t.Set
		}
	}
	return ""
}

// device plans the resume of a device that is suspended; one that is not needs none.
func (p *planner) device(dev uint64, set string) {
	i := slices.IndexFunc(p.state.Suspended, func(d Device) bool { return d.Dev == dev })
	if i >= 0 && p.take(KindDevice, dev) {
		p.plan.Targets = append(p.plan.Targets, Target{Kind: KindDevice, Name: p.state.Suspended[i].Name, Dev: dev, Set: set})
	}
}

// filesystem plans the thaw of a superblock; false if it is mounted nowhere. Whether it is frozen cannot be asked.
func (p *planner) filesystem(dev uint64, set string) bool {
	i := slices.IndexFunc(p.filesystems, func(f fsfreeze.Filesystem) bool { return f.Dev == dev })
	if i < 0 {
		return false
	}
	if f := p.filesystems[i]; p.take(KindFilesystem, dev) {
		p.plan.Targets = append(p.plan.Targets, Target{Kind: KindFilesystem, Name: f.Point(), Dev: dev, Set: set, Mounts: f.Mounts})
	}
	return true
}

// take keeps one thing from being released twice: a second FITHAW could take somebody else's freeze away.
func (p *planner) take(k Kind, dev uint64) bool {
	t := thing{k, dev}
	if p.taken[t] {
		return false
	}
	p.taken[t] = true
	return true
}

// DeviceName is how the guard's notes call a device.
func DeviceName(dev uint64) string {
	return fmt.Sprintf("device %d:%d", unix.Major(dev), unix.Minor(dev))
}
