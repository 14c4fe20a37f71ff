//go:build lab

package provider

import (
	"context"
	"errors"
)

// ArmUntil arms a volume as Prepare does, and Lock loads, and stops before the n-th step, as a daemon does that dies there;
// the kernel then takes the locks away. It tells whether there are more steps.
func (p *Thick) ArmUntil(ctx context.Context, set Set, v Volume, n int) (more bool, err error) {
	e := &thickSet{thick: p, lvmSet: lvmSet{lvmVolumes: &p.lvmVolumes, provider: p.Name(), remove: p.remove}}
	m := e.add(set, v)
	if err := p.lvm.CreateThickSnapshot(ctx, m.vg, m.lv, m.snapshot, cowSize(v, p.cow), cowChunk, tagsOf(p.host, set, v)...); err != nil {
		return false, err
	}
	if err := e.lock(ctx, e.find); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, e.lvmSet.Unlock()) }()
	steps := append(e.parks[0].arming(), e.parks[0].load)
	for i, step := range steps {
		if i == n {
			return true, nil
		}
		if err := step(); err != nil {
			return false, err
		}
	}
	return false, nil
}
