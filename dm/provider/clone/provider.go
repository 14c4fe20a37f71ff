package clone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fermata-project/fermata/dm/loop"
	"github.com/fermata-project/fermata/dm/provider"
)

// Name is the provider's name.
const Name = "clone"

// Provider has the complete clones for snapshots. It makes none in a set: they are made from the snapshots of one.
type Provider struct {
	Store

	mu     sync.Mutex
	unread error // what Load could not look at the last time
}

var errNoSnapshots = fmt.Errorf("%w: it copies finished snapshots (--method clone)", provider.ErrNoVolumes)

func (*Provider) Name() string        { return Name }
func (*Provider) Kind() provider.Kind { return provider.BuiltIn }

// Claim takes nothing.
func (*Provider) Claim(provider.Volume) (provider.Claim, error) {
	return provider.Claim{}, errNoSnapshots
}

// Admit takes nothing.
func (*Provider) Admit(context.Context, []provider.Volume) error { return errNoSnapshots }

// Prepare takes nothing.
func (*Provider) Prepare(context.Context, provider.Set, []provider.Volume) (provider.Enlistment, error) {
	return nil, errNoSnapshots
}

// Snapshots lists the images of clones that are complete, or whose deletion is not, and those whose record cannot be read,
// as lost. What may be no clone at all costs no set: Problems tells of it.
func (p *Provider) Snapshots(context.Context) ([]provider.Snapshot, error) {
	records, err := p.Load()
	if errors.Is(err, errUnlisted) {
		return nil, err
	}
	p.mu.Lock()
	p.unread = err
	p.mu.Unlock()
	var out []provider.Snapshot
	for _, r := range records {
		out = append(out, r.snapshots()...)
	}
	return out, nil
}

// Problems are what could not be looked at when the clones were last listed.
func (p *Provider) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unread == nil {
		return nil
	}
	return strings.Split(p.unread.Error(), "\n")
}

// Mark notes that clones are being deleted.
func (p *Provider) Mark(_ context.Context, snaps []provider.Snapshot) error {
	return p.each(snaps, func(r Record) error {
		if r.State == Damaged { // it can be none that looks whole
			return nil
		}
		r.State = Deleting
		return p.Save(r)
	})
}

// Delete removes the clones that snapshots belong to, whole.
func (p *Provider) Delete(ctx context.Context, snaps []provider.Snapshot) error {
	return p.each(snaps, func(r Record) error {
		for i := range r.Volumes {
			if err := detach(r.Image(i)); err != nil {
				return err
			}
		}
		return p.Remove(r)
	})
}

// each does something once for every clone that snapshots belong to.
func (p *Provider) each(snaps []provider.Snapshot, do func(Record) error) error {
	done := map[string]bool{}
	var errs []error
	for _, s := range snaps {
		dir := filepath.Dir(s.Name)
		if done[dir] {
			continue
		}
		done[dir] = true
		r, err := p.find(dir)
		if err == nil {
			err = do(r)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot change the clone in %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

var sysfs = os.DirFS("/sys")

// Expose makes a read-only loop device of an image, or finds the one that it has.
func (p *Provider) Expose(_ context.Context, s provider.Snapshot) (string, error) {
	devices, err := loop.Of(sysfs, s.Name)
	if err != nil {
		return "", err
	}
	if len(devices) > 0 {
		return devices[0], nil
	}
	f, err := openFile(s.Name, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return loop.Attach(f, loop.Options{ReadOnly: true})
}

// InUse reports whether an image has a loop device: while Fermata has not mounted it, that is somebody else's.
func (*Provider) InUse(s provider.Snapshot) (bool, error) {
	devices, err := loop.Of(sysfs, s.Name)
	return len(devices) > 0, err
}

// Hide takes the loop devices of images away.
func (p *Provider) Hide(_ context.Context, snaps []provider.Snapshot) error {
	var errs []error
	for _, s := range snaps {
		errs = append(errs, detach(s.Name))
	}
	return errors.Join(errs...)
}

func detach(image string) error {
	devices, err := loop.Of(sysfs, image)
	errs := []error{err}
	for _, d := range devices {
		errs = append(errs, loop.Detach(d))
	}
	return errors.Join(errs...)
}

var _ provider.Provider = (*Provider)(nil)
