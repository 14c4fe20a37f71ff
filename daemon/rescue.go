package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/daemon/thaw"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/rescue"
)

// rescueTime bounds what the daemon waits for in the kernel when it starts: what is stuck there is released as soon as it
// can be, and what the journal says of it stays for the next start.
const rescueTime = 20 * time.Second

// Rescue thaws and resumes what a dead transaction held, as the panic verb does, if the guard cannot have done it.
func (s System) Rescue(h held, settled bool) ([]string, error) {
	mounts, err := fsfreeze.MountTable()
	if err != nil {
		return nil, err
	}
	suspended, err := thaw.Suspended(s.Control)
	plan, decideErr := rescue.Decide(rescue.State{
		Transactions: []rescue.Transaction{{Held: h}}, Mounts: mounts, Suspended: suspended,
	}, rescue.Request{})
	plan.Settled = settled
	did, actErr := told(rescue.Act(plan, thaw.Resumer(s.Control, plan), rescueTime))
	return did, errors.Join(err, decideErr, actErr)
}

// told says what became of what was held.
func told(outcomes []rescue.Outcome) (did []string, err error) {
	verb := map[rescue.Kind]string{rescue.KindDevice: "resumed", rescue.KindFilesystem: "thawed"}
	var errs []error
	for _, o := range outcomes {
		switch o.Result {
		case rescue.Released:
			did = append(did, verb[o.Kind]+" "+o.Name)
		case rescue.Free:
		case rescue.Gone:
			did = append(did, "left alone "+o.Name+", which is not mounted any more")
		default:
			errs = append(errs, fmt.Errorf("cannot release %s %s: %s (fermata thaw)", o.Kind, o.Name, o.Error))
		}
	}
	return did, errors.Join(errs...)
}
