package dm

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeControl has pools of 100 blocks, of which ten are used.
type fakeControl struct {
	list              []ListEntry
	failed            error         // of List
	noTable, noStatus map[Dev]error // of those of which it has none
	noPool            Dev           // something else
}

func (c *fakeControl) List() ([]ListEntry, error) { return c.list, c.failed }

func (c *fakeControl) tableStatusIn(_ []byte, q request, _ int) ([]Target, Info, error) {
	dev := q.ref.Dev
	fails, params := c.noTable, "253:2 253:3 128 0 0"
	if q.flags&unix.DM_STATUS_TABLE_FLAG == 0 {
		fails, params = c.noStatus, "1 5/50 10/100 - rw discard_passdown queue_if_no_space - 1024"
	}
	if err := fails[dev]; err != nil {
		return nil, Info{}, err
	}
	info := Info{Name: "vg-pool", UUID: "LVM-pool", Dev: dev}
	if dev == c.noPool {
		return []Target{{Type: "linear", Params: "8:17 2048"}}, info, nil
	}
	return []Target{{Type: "thin-pool", Params: params}}, info, nil
}

// A device that cannot be looked at is neither there with a size of 0 nor gone, and can be looked at again.
func TestSpacesUnseen(t *testing.T) {
	pool, linear := MkDev(253, 4), MkDev(253, 5)
	list := []ListEntry{{Name: "vg-pool", Dev: pool}, {Name: "vg-root", Dev: linear}}
	control := &fakeControl{list: list, noPool: linear}
	spaces := &Spaces{control: control}
	seen := func() []Space {
		t.Helper()
		all, unseen, err := spaces.All()
		if len(all) != 1 || all[0].Dev != pool || all[0].Device != "vg-pool" || all[0].Data != (Fill{10 * 128 * 512, 100 * 128 * 512}) || len(unseen) > 0 || err != nil {
			t.Fatalf("%+v, %v, %v", all, unseen, err)
		}
		return all
	}
	before := seen()
	because := func(e unix.Errno) map[Dev]error { return map[Dev]error{pool: &Error{Op: "look at", Errno: e}} }
	for name, c := range map[string]fakeControl{
		"no list":   {failed: unix.ENOMEM},
		"no table":  {list: list, noTable: because(unix.ENOMEM)},
		"no status": {list: list, noStatus: because(unix.ENOMEM)},
	} {
		c.noPool = linear
		*control = c
		all, unseen, err := spaces.All()
		if len(all) > 0 || !slices.Equal(unseen, []Dev{pool}) || !errors.Is(err, unix.ENOMEM) {
			t.Errorf("%s: %+v, %v, %v", name, all, unseen, err)
		}
		*control = fakeControl{list: list, noPool: linear}
		if one, err := spaces.One(pool); err != nil || !reflect.DeepEqual(one, before[0]) {
			t.Errorf("%s, and then alone: %+v, %v", name, one, err)
		}
		seen()
	}
	*control = fakeControl{list: list, noPool: linear, noStatus: because(unix.ENXIO)}
	if all, unseen, err := spaces.All(); len(all)+len(unseen) > 0 || err != nil {
		t.Errorf("gone: %+v, %v, %v", all, unseen, err)
	}
}
