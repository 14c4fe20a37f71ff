package daemon

import (
	"cmp"
	"fmt"

	"github.com/fermata-project/fermata/daemon/api"
)

// occupations are what the daemon does or keeps beside its requesters' jobs, which the bus knows. It looks at the mount table only if
// a set has been mounted.
func (d *Daemon) occupations() []api.Occupation {
	var busy []api.Occupation
	if d.keeper != nil && d.keeper.Acting() {
		busy = append(busy, api.Occupation{What: "something is being done about a pool"})
	}
	for _, c := range d.clonings() {
		what := fmt.Sprintf("set %s is being copied, %d%%", c.record.Source, c.progress().Percent())
		busy = append(busy, api.Occupation{What: what, OutlivesRestart: true})
	}
	for _, set := range d.recordedSets() {
		present, err := d.mountsOf(set)
		switch {
		case err != nil:
			busy = append(busy, api.Occupation{What: err.Error(), OutlivesRestart: true})
		case len(present) > 0:
			at := cmp.Or(present[0].Path, present[0].Link)
			busy = append(busy, api.Occupation{What: fmt.Sprintf("set %s is mounted: %s", set, at), OutlivesRestart: true})
		}
	}
	return busy
}
