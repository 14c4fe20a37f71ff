package provider

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
)

func TestIsOpen(t *testing.T) {
	for _, c := range []struct {
		count int32
		errno unix.Errno
		want  bool
	}{{0, 0, false}, {1, 0, true}, {3, 0, true}, {0, unix.ENXIO, false}, {0, unix.ENOMEM, false}} {
		var err error
		if c.errno != 0 {
			err = &dm.Error{Op: "look at", Errno: c.errno}
		}
		got, err := isOpen(dm.Info{OpenCount: c.count}, err)
		if unknown := c.errno == unix.ENOMEM; got != c.want || unknown != errors.Is(err, unix.ENOMEM) || !unknown && err != nil {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}

var (
	_ Occupier = (*Thin)(nil)
	_ Occupier = (*Thick)(nil)
	_ Occupier = (*DM)(nil)
)
