package daemon

import (
	"fmt"
	"slices"

	"github.com/fermata-project/fermata/dm/provider"
)

// apart refuses a set in which one volume's snapshot keeps what is overwritten on another volume: the first write after
// the window would wait for the other's thaw, and that, by the order of thawing, can be waiting for it.
func apart(shares []share) error {
	for _, s := range shares {
		stored, ok := s.provider.(provider.Stored)
		if !ok {
			continue
		}
		below, err := stored.Storage()
		if err != nil {
			return err
		}
		for _, other := range shares {
			for _, v := range other.volumes {
				if slices.Contains(below, v.Dev) {
					return fmt.Errorf("provider %s keeps its snapshots of %s on %s (take %s in another set, or give the provider another storage volume)",
						s.provider.Name(), s.volumes[0].Name, v.Name, v.Name)
				}
			}
		}
	}
	return nil
}
