package recipe

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/fermata-project/fermata/hooks"
)

// Place is a file or a folder that has to be in the set.
type Place struct {
	What string // for messages: "data directory"
	Path string // without symbolic links
}

// ErrOutside says that a place is on none of the set's volumes.
var ErrOutside = errors.New("on none of the set's volumes")

// Unchecked is the warning of a dry run that names no volumes.
const Unchecked = "no volumes were named: not checked where the files lie"

// NamesVolumes says whether a request tells where the set's volumes are. That it
// does not is an error, unless it is a dry run.
func NamesVolumes(r hooks.Request) (bool, error) {
	if len(r.Volumes) == 0 && !r.DryRun {
		return false, errors.New("the set names no volumes, so it cannot be checked that all files are in it")
	}
	return len(r.Volumes) > 0, nil
}

// CheckPlaces is nil if each place is on the device of one of the volumes, which
// are mount points; an error for one that is not satisfies errors.Is(err,
// ErrOutside).
func CheckPlaces(places []Place, volumes []string) error {
	return checkPlaces(places, volumes, deviceOf)
}

func checkPlaces(places []Place, volumes []string, device func(string) (uint64, error)) error {
	inSet := map[uint64]bool{}
	for _, v := range volumes {
		d, err := device(v)
		if err != nil {
			return fmt.Errorf("cannot look at volume %s: %w", v, err)
		}
		inSet[d] = true
	}
	for _, p := range places {
		d, err := device(p.Path)
		if err != nil {
			return fmt.Errorf("cannot look at the %s: %w", p.What, err)
		}
		if !inSet[d] {
			return fmt.Errorf("the %s %s is %w (%s): add its volume to the policy", p.What, p.Path, ErrOutside, strings.Join(volumes, ", "))
		}
	}
	return nil
}

// deviceOf is the number of the device under a path (st_dev of stat(2)).
func deviceOf(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return uint64(info.Sys().(*syscall.Stat_t).Dev), nil
}
