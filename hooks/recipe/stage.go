package recipe

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// OnStage is nil if each place is in the image that a request of recover or verify is about: there everything else is
// read-only. A recipe asks before it changes anything.
func OnStage(places []Place) error {
	for _, p := range places {
		var st unix.Statfs_t
		if err := unix.Statfs(p.Path, &st); err != nil {
			return fmt.Errorf("cannot look at the %s %s: %w", p.What, p.Path, err)
		}
		if st.Flags&unix.ST_RDONLY != 0 {
			return fmt.Errorf("the %s %s is %w: add its volume to the policy", p.What, p.Path, ErrOutside)
		}
	}
	return nil
}
