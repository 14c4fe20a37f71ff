package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/catalog"
	"github.com/fermata-project/fermata/dm/provider"
)

// unseen says of each set what of it is, or may be, only out of sight: with a provider that could not be asked or is not in use,
// in a volume group that is not there. Nobody may delete such a set by itself, however few of its snapshots are listed.
func (d *Daemon) unseen(ctx context.Context, c catalog.Contents, unheard map[string]error) map[string]error {
	out := map[string]error{}
	for _, m := range c.Sets {
		if why := d.outOfSight(ctx, m, c.Snapshots[m.ID], unheard); why != nil {
			out[m.ID] = why
		}
	}
	return out
}

// outOfSight is nil if all of a set is as it is listed, and what is missing is gone for certain.
func (d *Daemon) outOfSight(ctx context.Context, m api.Manifest, snaps []provider.Snapshot, unheard map[string]error) error {
	for _, s := range snaps {
		if err := unheard[s.Provider]; err != nil {
			return fmt.Errorf("provider %s: %w", s.Provider, err)
		}
	}
	missing := snaps[0].Set.Members - len(snaps)
	switch {
	case missing == 0:
		return nil
	case missing < 0:
		return errors.New("it has more snapshots than volumes")
	}
	for _, v := range m.Volumes {
		if v.Name == "" || slices.ContainsFunc(snaps, func(s provider.Snapshot) bool { return s.Name == v.Name }) {
			continue
		}
		if err := d.lost(ctx, v, unheard); err != nil {
			return err
		}
		missing--
	}
	if missing != 0 {
		return errors.New("its manifest does not tell which of its snapshots are missing")
	}
	return nil
}

// lost is nil if a snapshot that nobody lists is gone for certain.
func (d *Daemon) lost(ctx context.Context, v api.Snapshot, unheard map[string]error) error {
	p, err := d.provider(v.Provider)
	if err != nil {
		return fmt.Errorf("provider %s, which has its snapshot %s, is not in use", v.Provider, v.Name)
	}
	if err := unheard[v.Provider]; err != nil {
		return fmt.Errorf("provider %s: %w", v.Provider, err)
	}
	w, ok := p.(provider.Witness)
	if !ok {
		return fmt.Errorf("provider %s does not list %s, and cannot tell whether it is lost", v.Provider, v.Name)
	}
	seen, err := w.Sees(ctx, v.Name)
	switch {
	case err != nil:
		return fmt.Errorf("provider %s: %w", v.Provider, err)
	case !seen:
		return fmt.Errorf("where its snapshot %s was is not there at the moment", v.Name)
	}
	return nil
}

// unsure says why not all of a set is known as it is; nil: it is.
func (d *Daemon) unsure(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.contents.Unseen[id]
}
