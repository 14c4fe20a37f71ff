package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/child"
)

// takes reports whether a writer declares a phase beside a set: see hooks.Spec.Takes.
func takes(w config.Writer, phase hooks.Phase) bool {
	switch phase {
	case hooks.PhaseRecover:
		return w.Recover || len(w.Commands.Recover) > 0
	case hooks.PhaseVerify:
		return w.Verify || len(w.Commands.Verify) > 0
	case hooks.PhaseReport:
		return w.Report || len(w.Commands.Report) > 0
	}
	return false
}

// recovers reports whether a writer of the set wants to recover its data on the snapshots.
func (t *transaction) recovers() bool {
	for _, w := range t.policy.writers {
		if takes(w, hooks.PhaseRecover) {
			return true
		}
	}
	return false
}

// mustRecover is one that the set cannot do without; empty: there is none.
func (t *transaction) mustRecover() string {
	for _, w := range t.policy.writers {
		if takes(w, hooks.PhaseRecover) && w.Required && w.OnFailure != config.OnFailureDegrade {
			return w.Name
		}
	}
	return ""
}

// recoverImages gives the writers the snapshots, to be written to, on a stage of their own; then it seals them.
func (t *transaction) recoverImages(ctx context.Context) error {
	stage, err := t.stage(ctx)
	if err == nil {
		err = t.writers.Recover(ctx, stage)
	} else {
		err = t.writers.Missed(hooks.PhaseRecover, err)
	}
	// Whoever failed, and whatever it has cost: what is kept is sealed.
	if err := errors.Join(classed(api.Failed, err), t.sealImages(ctx)); err != nil {
		return err
	}
	return t.claim()
}

// stage opens the snapshots.
func (t *transaction) stage(ctx context.Context) (*child.Stage, error) {
	for _, m := range t.plan.members {
		if !m.captured() {
			return nil, fmt.Errorf("cannot recover anything on the snapshots: %s is a file on %s, and has none of its own", m.path, m.inside)
		}
	}
	ctx, cancel := t.daemon.bounded(ctx)
	defer cancel()
	var images []provider.Image
	for _, p := range t.parts {
		part := p.(*patientSet)
		t.opened = append(t.opened, part)
		got, err := part.open(ctx)
		if err != nil {
			return nil, err
		}
		images = append(images, got...)
	}
	var mounts []child.Mount
	for _, i := range images {
		v := i.Volume
		if v.FSType == "" || v.MountPoint == "" {
			continue // raw
		}
		if v.FSType == "btrfs" {
			return nil, fmt.Errorf("cannot recover anything on the snapshots: the one of %s is a btrfs with the id of its origin, beside which it cannot be mounted", v.MountPoint)
		}
		mounts = append(mounts, child.Mount{Device: i.Device, FSType: v.FSType, Path: v.MountPoint, Options: joined(mountOptions(v.FSType, true), v.Options)})
	}
	return t.daemon.newStage(mounts)
}

// newStage is one of these mounts.
func (d *Daemon) newStage(mounts []child.Mount) (*child.Stage, error) {
	s := &child.Stage{Mounts: mounts, Root: filepath.Join(d.o.RunDir, "stage")}
	if err := os.MkdirAll(s.Root, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a place for an image of the root: %w", err)
	}
	return s, nil
}

// sealImages takes the devices of the snapshots away and makes them read-only. What cannot be sealed is not kept: the set
// is undone then.
func (t *transaction) sealImages(ctx context.Context) error {
	ctx, cancel := t.daemon.within(ctx, t.daemon.changeLimit)
	defer cancel()
	var errs []error
	for _, p := range t.opened {
		errs = append(errs, p.seal(ctx))
	}
	t.opened = nil
	return errors.Join(errs...)
}

// joined are mount options, of which any may be empty.
func joined(options ...string) string { return strings.Trim(strings.Join(options, ","), ",") }
