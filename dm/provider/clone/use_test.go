package clone

import (
	"testing"
	"testing/fstest"

	"github.com/fermata-project/fermata/dm/provider"
)

// An image is in use while a loop device has it as its file.
func TestInUse(t *testing.T) {
	was := sysfs
	t.Cleanup(func() { sysfs = was })
	sysfs = fstest.MapFS{
		"block/loop0/loop/backing_file": {Data: []byte("/srv/clones/1/data.img\n")},
		"block/loop1/loop/backing_file": {Data: []byte("/srv/clones/2/data.img (deleted)\n")},
		"block/loop2/size":              {Data: []byte("0\n")},
	}
	var p provider.Occupier = &Provider{}
	for name, want := range map[string]bool{"/srv/clones/1/data.img": true, "/srv/clones/2/data.img": true, "/srv/clones/3/data.img": false, "/srv/clones/1/data": false} {
		if used, err := p.InUse(provider.Snapshot{Name: name}); used != want || err != nil {
			t.Errorf("%s: %v, %v", name, used, err)
		}
	}
}
