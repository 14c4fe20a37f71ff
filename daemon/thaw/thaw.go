// Package thaw is the panic verb: it releases what a freeze window has left frozen or suspended, without daemon, bus or
// configuration. It reads /run/fermata, /proc, /sys and device-mapper, releases (package fsfreeze/rescue), and only then
// writes: a note for the next start of the daemon, so that it does not thaw again what is somebody else's by then.
package thaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/fsfreeze/rescue"
)

// Options say what to release, and where the daemon and the guard left word.
type Options struct {
	rescue.Request
	Journal, Notes string        // directories
	Limit          time.Duration // for everything
	// Units thaws the units that a writer of type systemd-unit has frozen, and says which; nil: they are left alone.
	Units func(context.Context) ([]string, error)
	// Dead leaves alone what belongs to a daemon that lives: it releases that itself.
	Dead bool
}

// Report is what was done.
type Report struct {
	Outcomes []rescue.Outcome `json:"outcomes"`
	// Units are the units of systemd that were thawed.
	Units []string `json:"units,omitempty"`
	// Left are suspended device-mapper devices that are not known to be ours, and were left alone.
	Left []string `json:"left"`
	// Problems are what could not be read; what was not known of because of them is not released.
	Problems []string `json:"problems"`
	blind    bool     // something may be held that was not known of
	untold   bool     // what was released may be released again
}

// Journal is where the daemon keeps its journals, below its default RunDir.
const Journal = "/run/fermata/journal"

// reason is what the notes say.
const reason = "fermata thaw"

// Run releases. An error means that it could not begin.
func Run(o Options) (Report, error) {
	r := Report{Outcomes: []rescue.Outcome{}, Left: []string{}, Problems: []string{}}
	if os.Geteuid() != 0 {
		return r, fmt.Errorf("cannot thaw: %w: only root can", unix.EPERM)
	}
	problem := func(err error, matters bool) {
		if err != nil {
			r.Problems, r.blind = append(r.Problems, err.Error()), r.blind || matters
		}
	}
	problem(rescue.Lock(), false)

	var s rescue.State
	left, err := journal.Leftovers(o.Journal)
	if o.Dead {
		left = slices.DeleteFunc(left, journal.Leftover.Open)
	}
	needed := !o.All && len(o.Points) == 0 // otherwise it does not decide what is released
	problem(err, needed)
	s.Transactions, err = transactions(left, o.Notes)
	problem(err, needed)
	s.Mounts, err = fsfreeze.MountTable()
	problem(err, true)
	control, err := dm.Open()
	if err == nil {
		s.Suspended, err = Suspended(control)
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		err = nil // no device-mapper: nothing is suspended
	}
	problem(err, true)
	if len(o.Points) > 0 {
		s.Below = below(s.Mounts)
	}

	plan, err := rescue.Decide(s, o.Request)
	problem(err, true)
	plan.Settled = o.Dead
	r.Outcomes = append(r.Outcomes, rescue.Act(plan, Resumer(control, plan), o.Limit)...)

	// Everything is released that can be: from here on it may write.
	for _, d := range plan.Left {
		r.Left = append(r.Left, d.Name)
	}
	r.told(leaveNotes(o.Notes, left, s.Transactions, r.Outcomes))
	if o.Units != nil && len(o.Points) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), o.Limit)
		defer cancel()
		r.Units, err = o.Units(ctx)
		problem(err, true)
	}
	return r, nil
}

// told takes down whether the daemon's next start will know what was released.
func (r *Report) told(err error) {
	if err != nil {
		r.untold = true
		r.Problems = append(r.Problems, fmt.Sprintf("the daemon's next start is not told what was released, and may thaw it again, whoever has frozen it by then: %v", err))
	}
}

// transactions are those that were in their freeze window when they were last heard of.
func transactions(left []journal.Leftover, notes string) ([]rescue.Transaction, error) {
	var out []rescue.Transaction
	var errs []error
	for _, l := range left {
		for _, step := range journal.Holding {
			state, data, begun := l.Last(step)
			if !begun || state != journal.Doing {
				continue
			}
			t := rescue.Transaction{Set: l.Name}
			if err := json.Unmarshal(data, &t.Held); err != nil {
				errs = append(errs, fmt.Errorf("cannot read what set %s held: %w", l.Name, err))
				continue
			}
			note, found, err := guard.ReadNote(notes, l.Name)
			t.Released, t.Finished = note.Released, found && len(note.Errors) == 0
			errs = append(errs, err)
			out = append(out, t)
		}
	}
	return out, errors.Join(errs...)
}

// Suspended lists the suspended devices. One without a live table is still being made, and nobody waits for it.
func Suspended(control *dm.Control) ([]rescue.Device, error) {
	list, err := control.List()
	var out []rescue.Device
	for _, e := range list {
		info, infoErr := control.Info(dm.ByDev(e.Dev))
		switch {
		case errors.Is(infoErr, unix.ENXIO): // gone meanwhile
		case infoErr != nil:
			err = errors.Join(err, infoErr)
		case info.Suspended && info.LiveTable:
			out = append(out, rescue.Device{Dev: uint64(e.Dev), Name: info.Name})
		}
	}
	return out, err
}

// below lists the devices below each mounted filesystem. What has none of its own, such as a btrfs, is left out: to ask a
// btrfs for its devices it has to be opened, which may wait for them.
func below(mounts []fsfreeze.Mount) map[uint64][]uint64 {
	out := map[uint64][]uint64{}
	for _, f := range fsfreeze.Filesystems(mounts) {
		if d, err := fsfreeze.Stack(os.DirFS("/sys"), f.Dev); err == nil {
			d.Walk(func(d fsfreeze.Device) { out[f.Dev] = append(out[f.Dev], d.Dev) })
		}
	}
	return out
}

// Resumer prepares the resume of every device of the plan.
func Resumer(control *dm.Control, p rescue.Plan) func(uint64) error {
	prepared := map[uint64]func() error{}
	for _, t := range p.Targets {
		if t.Kind == rescue.KindDevice {
			prepared[t.Dev] = control.PrepareRelease(dm.Dev(t.Dev))
		}
	}
	return func(dev uint64) error { return prepared[dev]() }
}

// leaveNotes tells the daemon's next start what was released of a dead transaction, as the guard does. A living daemon
// finds out by itself that its hold was broken, and may go on to freeze what comes next.
func leaveNotes(dir string, left []journal.Leftover, all []rescue.Transaction, outcomes []rescue.Outcome) error {
	var errs []error
	for _, l := range left {
		for _, t := range all {
			names, complete := account(t, outcomes)
			if t.Set != l.Name || t.Finished || !complete || l.Open() {
				continue
			}
			errs = append(errs, guard.WriteNote(dir, t.Set, guard.Report{Reason: reason, Released: append(t.Released, names...)}))
		}
	}
	return errors.Join(errs...)
}

// account says what was released of a transaction, and whether nothing of it is held any more.
func account(t rescue.Transaction, outcomes []rescue.Outcome) (names []string, complete bool) {
	complete = true
	look := func(k rescue.Kind, dev uint64, name string, needed bool) {
		i := slices.IndexFunc(outcomes, func(o rescue.Outcome) bool { return o.Kind == k && o.Dev == dev })
		switch {
		case slices.Contains(t.Released, name):
		case i < 0:
			complete = complete && !needed
		default:
			complete = complete && outcomes[i].OK()
			if outcomes[i].Result == rescue.Released {
				names = append(names, name)
			}
		}
	}
	for _, dev := range t.Held.Devices {
		look(rescue.KindDevice, dev, rescue.DeviceName(dev), false) // one that is not suspended has no outcome
	}
	for _, f := range t.Held.Filesystems {
		look(rescue.KindFilesystem, f.Dev, f.Point, true)
	}
	return names, complete
}

// OK reports whether nothing that was to be released is held any more, and the daemon's next start will know.
func (r Report) OK() bool {
	for _, o := range r.Outcomes {
		if !o.OK() {
			return false
		}
	}
	return !r.blind && !r.untold
}
